"""Writing the files of a data set, so that an interrupted run can go on and never looks finished."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from data.published.archives import DamagedSource, Reader, Source
from data.published.contents import decode
from data.published.members import Picture
from util.errors import UserError
from util.files import fitting_name, replace
from util.staging import Staging

CHECKSUMS = "files.sha256"
BLOCK = 1 << 20
SPARE_BYTES = 1 << 26
PNG_LEVEL = 6


@dataclass(frozen=True)
class Output:
    """One file to write: ``path`` such as ``trainA/name.png`` below the data set's folder, and what it shows."""

    path: str
    picture: Picture


@dataclass(frozen=True)
class Written:
    """One file of the data set: path below its folder, size in bytes, checksum of its content."""

    path: str
    size: int
    sha256: str


class Stage:
    """The folder in which a data set grows, with a journal of what is finished, from which the next run continues."""

    def __init__(self, staging: Staging, request: str) -> None:
        """What an earlier run with another ``request`` left goes.

        Raises:
            UserError: the folder was not made here.
        """
        self.out, self.files = staging.place, staging.folder
        self._staging, self._journal = staging, staging.folder / ".journal"
        request_file = staging.folder / ".request"
        if not request_file.is_file() and any(self.files.iterdir()):
            raise UserError(f"--out {self.out}: '{self.files}' is in the way; remove it.")
        if request_file.is_file() and request_file.read_text(encoding="utf-8") != request:
            staging.discard()
            self.files.mkdir()
        request_file.write_text(request, encoding="utf-8")
        self.finished = self._read_journal()

    def _read_journal(self) -> dict[str, Written]:
        finished: dict[str, Written] = {}
        if not self._journal.is_file():
            return finished
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            fields = line.split("\t")
            if len(fields) != 4 or fields[3] != ".":  # a line cut off by the interruption
                continue
            checksum, size, path = fields[:3]
            with suppress(OSError):
                if (self.files / path).stat().st_size == int(size):
                    finished[path] = Written(path, int(size), checksum)
        return finished

    def open_journal(self) -> IO[str]:
        """For :meth:`note`; starts a new line after one that was cut off."""
        journal = self._journal.open("a", encoding="utf-8", newline="\n")
        journal.write("\n")
        return journal

    def note(self, journal: IO[str], written: Written) -> None:
        """Remember a finished file."""
        journal.write(f"{written.sha256}\t{written.size}\t{written.path}\t.\n")
        journal.flush()
        self.finished[written.path] = written

    def publish(self) -> None:
        """Move the complete data set to its place."""
        self._staging.publish()
        for name in (".journal", ".request"):
            (self.out / name).unlink()


def write_outputs(outputs: Sequence[Output], sources: Sequence[Source], stage: Stage, *, copy: bool) -> list[Written]:
    """Write all files that are not finished yet; return all of them, in the order of ``outputs``.

    Unpacked files are linked (hard links) unless ``copy``, or the file system cannot. An image that is needed under
    several names is stored once.

    Raises:
        UserError: a source is damaged, or the files cannot be written.
    """
    missing = [output for output in outputs if output.path not in stage.finished]
    _check_space(missing, sources, stage.out, copy)
    grouped: dict[int, dict[str, dict[Picture, list[str]]]] = {}
    for output in missing:
        member = output.picture.member
        pictures = grouped.setdefault(member.source, {}).setdefault(member.name, {})
        pictures.setdefault(output.picture, []).append(output.path)
    for folder in {Path(output.path).parent for output in outputs}:
        (stage.files / folder).mkdir(exist_ok=True)
    done = len(outputs) - len(missing)
    with (
        stage.open_journal() as journal,
        tqdm(total=len(outputs), initial=done, desc=stage.out.name, unit="file", disable=None) as progress,
    ):
        for position, wanted in grouped.items():
            for name, reader in sources[position].read(wanted):
                local = None if copy else sources[position].local_path(name)
                for written in _write_member(reader, wanted[name], stage.files, local, copy):
                    stage.note(journal, written)
                    progress.update()
    return [stage.finished[output.path] for output in outputs]


def _check_space(missing: Sequence[Output], sources: Sequence[Source], out: Path, copy: bool) -> None:
    pictures = {output.picture for output in missing}
    needed = sum(p.member.size for p in pictures if copy or sources[p.member.source].kind != "folder")
    free = shutil.disk_usage(out.parent).free
    if needed and needed + SPARE_BYTES > free:
        raise UserError(
            f"--out {out}: {needed / 1e9:.1f} GB are to be written, but only {free / 1e9:.1f} GB are free there."
        )


def _write_member(
    reader: Reader, pictures: dict[Picture, list[str]], folder: Path, local: Path | None, copy: bool
) -> list[Written]:
    """Write everything that is made of one file of a source."""
    result: list[Written] = []
    halves = [picture for picture in pictures if picture.half != "whole"]
    data = reader.read() if halves else b""
    for picture, (first, *others) in pictures.items():
        target = folder / first
        if picture.half != "whole":
            written = _store_half(data, picture, first, target)
        else:
            written = _store_whole(reader, first, target, local)
            if written.size != picture.member.size:
                raise DamagedSource(
                    f"'{picture.member}' has {written.size} bytes instead of {picture.member.size}; "
                    "the source is damaged or being changed, get it again."
                )
        result.append(written)
        for other in others:
            _link_or_copy(target, folder / other, copy)
            result.append(Written(other, written.size, written.sha256))
    return result


def _partial(target: Path) -> Path:
    partial = fitting_name(target.parent / f".{target.name}.part")
    partial.unlink(missing_ok=True)
    return partial


def _store_whole(reader: Reader, name: str, target: Path, local: Path | None) -> Written:
    """Hash the file on its way; link it if it is unpacked, else store what is read."""
    partial = _partial(target)
    linked = False
    if local is not None:
        with suppress(OSError):  # another file system, or one without hard links
            os.link(local, partial)
            linked = True
    digest, size = hashlib.sha256(), 0
    with open(os.devnull, "wb") if linked else partial.open("wb") as file:  # noqa: PTH123
        while block := reader.read(BLOCK):
            digest.update(block)
            size += len(block)
            file.write(block)
    _move(partial, target)
    return Written(name, size, digest.hexdigest())


def _store_half(data: bytes, picture: Picture, name: str, target: Path) -> Written:
    partial = _partial(target)
    decode(data, picture).save(partial, format="PNG", compress_level=PNG_LEVEL)
    content = partial.read_bytes()
    _move(partial, target)
    return Written(name, len(content), hashlib.sha256(content).hexdigest())


def _link_or_copy(source: Path, target: Path, copy: bool) -> None:
    partial = _partial(target)
    try:
        if copy:
            raise OSError("links are not wanted")
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    _move(partial, target)


def _move(partial: Path, target: Path) -> None:
    replace(partial, target)
    partial.unlink(missing_ok=True)  # is still there where both were links to one file


def write_checksums(folder: Path, files: Iterable[Written]) -> str:
    """Write ``files.sha256``, in the format of the program sha256sum and sorted by path, and return its own hash.

    The hash depends on the names and contents of the files alone, not on where the source lay or whether it was packed.
    """
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    (folder / CHECKSUMS).write_text(lines, encoding="utf-8", newline="\n")
    return hashlib.sha256(lines.encode()).hexdigest()
