"""Reading sources: folders, zip and tar archives, none of which is trusted.

Nothing is ever unpacked under a name from an archive: the caller chooses the names it writes. Still an archive with
names that lead out of it, links, devices or too large files is refused as a whole, before any of them is read.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from data.published.members import Member
from util.errors import UserError
from util.files import real_path
from util.finding import find_files, is_junk

GIB = 1 << 30
DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; the defaults leave room for the largest published set (SPA-Data: 1.3 million files)."""

    members: int = 3_000_000
    member_bytes: int = GIB // 4
    total_bytes: int = 512 * GIB
    ratio: int = 200
    """Unpacked bytes per packed byte; photographs stay far below 10, archives made to fill a disk far above."""
    always_allowed: int = 8 << 20
    """Bytes that may be packed as densely as they like."""


class Tally:
    """Checks the names and sizes of an archive one by one, so that a bomb is refused before it is listed to its end."""

    def __init__(self, source: Source, limits: Limits) -> None:
        """``source`` is the archive that is listed."""
        self._source, self._limits = source, limits
        self._packed = source.path.stat().st_size
        self._count = self._total = 0

    def add(self, name: str, size: int, *, is_file: bool, packed: int | None = None) -> str | None:
        """The cleaned name, or None for what is no file of the data set.

        Raises:
            UserError: the name leads out of the archive or comes twice, or a limit is exceeded.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or DRIVE.match(name) or "\0" in name:
            raise self._source.refuse(f"its file name '{name}' leads out of it")
        self._count += 1
        self._total += size
        too_many = self._count > self._limits.members
        too_large = size > self._limits.member_bytes or self._total > self._limits.total_bytes
        too_dense = self._is_dense(self._total, self._packed) or (packed is not None and self._is_dense(size, packed))
        if too_many or too_large or too_dense:
            what = "more files" if too_many else "larger files" if too_large else "files packed more densely"
            raise self._source.refuse(f"it holds {what} than is safe to unpack (at '{name}')")
        if not is_file or any(map(is_junk, path.parts)):
            return None
        clean = path.as_posix()
        if clean in self._source.sizes:
            raise self._source.refuse(f"it holds '{clean}' twice")
        return clean

    def _is_dense(self, size: int, packed: int) -> bool:
        """Whether it is packed too well for images; a little of anything, such as black ones, may be."""
        return size > max(self._limits.always_allowed, packed * self._limits.ratio)


SPLIT_ARCHIVE = re.compile(r"\.(?:zip|tar|gz|tgz|7z)\.\d+$|\.z\d\d$", re.IGNORECASE)
FOREIGN = {b"Rar!": "RAR", b"7z\xbc\xaf": "7-Zip", b"BZh": "bzip2", b"\xfd7zX": "xz"}
MAGIC_LENGTH = 4
ZIP_START = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_START = b"\x1f\x8b"
TAR_MAGIC_AT, TAR_MAGIC = 257, b"ustar"
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError, UnicodeDecodeError)


class DamagedSource(UserError):
    """A source that breaks off or whose checksums are wrong."""


class Source(ABC):
    """Something that holds files. ``label`` is its name, under which layouts see its files."""

    kind: str

    def __init__(self, path: Path) -> None:
        """``path`` exists."""
        self.path = path
        name = real_path(path).name
        self.label = re.sub(r"(?i)(\.tar)?\.(zip|tar|tgz|gz|txt)$", "", name) if path.is_file() else name
        self.sizes: dict[str, int] = {}

    def members(self, position: int) -> list[Member]:
        """The files as a layout sees them; ``position`` is the source's place among the sources."""
        return [Member(position, self.label, name, size) for name, size in sorted(self.sizes.items())]

    @abstractmethod
    def stream(self, names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Open the files ``names`` one after the other, in the order in which they are stored."""

    def local_path(self, name: str) -> Path | None:
        """Where the file lies on disk, if it is not packed."""
        return None

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Reader]]:
        """As :meth:`stream`; damage that shows on the way is a :class:`UserError` that names the source."""
        opened = self.stream(names)
        while True:
            with self.translating():
                item = next(opened, None)
            if item is None:
                return
            yield item[0], Reader(item[1], self)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what a damaged archive leads Python's readers to into a :class:`UserError`."""
        try:
            yield
        except NotImplementedError as error:  # such as Deflate64, which Windows uses for large files
            raise UserError(
                f"--source {self.path}: is packed in a way that is not read here ({_plain(error)}); unpack it and give "
                "the folder."
            ) from error
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(
                    f"--source {self.path}: cannot be read ({error.strerror}); check the drive and the permissions."
                ) from error
            raise DamagedSource(
                f"--source {self.path}: cannot be read to its end ({_plain(error)}); it is damaged or truncated, "
                "so download or copy it again."
            ) from error

    def refuse(self, found: str) -> UserError:
        """The error for an archive with dangerous content."""
        return UserError(f"--source {self.path}: {found}, which no published data set has; get it from its publisher.")


class Reader:
    """An open file of a source."""

    def __init__(self, file: IO[bytes], source: Source) -> None:
        """``file`` stays open until the source's next file is asked for."""
        self._file, self._source = file, source

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; all that are left if negative."""
        with self._source.translating():
            return self._file.read(size)


def _plain(error: Exception) -> str:
    if str(error) == "File is not a zip file":  # Python's word for a zip archive without its end
        return "its table of contents is missing"
    return str(error).rstrip(".") or type(error).__name__


class FolderSource(Source):
    """An unpacked folder, or a single text file. Links in it are the user's own and are followed."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        """Lists the folder."""
        super().__init__(path)
        with self.translating():
            if path.is_file():
                self.sizes = {path.name: path.stat().st_size}
            else:
                found = find_files(path, None)
                self.sizes = {name: file.stat().st_size for name, file in found.items() if file.is_file()}

    def local_path(self, name: str) -> Path:
        """Where the file lies, links resolved."""
        return real_path(self.path if self.path.is_file() else self.path / name)

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Open each file."""
        for name in sorted(names):
            with self.local_path(name).open("rb") as file:
                yield name, file


class ZipSource(Source):
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path, limits: Limits) -> None:
        """Reads and checks the directory of the archive."""
        super().__init__(path)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        with self.translating(), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        tally = Tally(self, limits)
        for info in infos:
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise self.refuse(f"it holds the symbolic link '{info.filename}'")
            if info.flag_bits & 1:
                raise UserError(f"--source {path}: is encrypted; unpack it with its password and give the folder.")
            name = tally.add(info.filename, info.file_size, packed=info.compress_size, is_file=not info.is_dir())
            if name is not None:
                self.sizes[name], self._infos[name] = info.file_size, info
        if sum(info.compress_size for info in infos) > path.stat().st_size:
            raise self.refuse("its files overlap")

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Open each file; reading one to its end checks its checksum."""
        with zipfile.ZipFile(self.path) as archive:
            for name in sorted(names, key=lambda name: self._infos[name].header_offset):
                with archive.open(self._infos[name]) as file:
                    yield name, file


class TarSource(Source):
    """A tar archive, plain or gzipped."""

    kind = "tar"

    def __init__(self, path: Path, limits: Limits) -> None:
        """Reads and checks all headers."""
        super().__init__(path)
        tally = Tally(self, limits)
        with self.translating(), tarfile.open(path, "r:*") as archive:
            for info in archive:
                if not (info.isfile() or info.isdir()):
                    kind = "link" if info.issym() or info.islnk() else "special file"
                    raise self.refuse(f"it holds the {kind} '{info.name}'")
                name = tally.add(info.name, info.size, is_file=info.isfile())
                if name is not None:
                    self.sizes[name] = info.size

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Open each file in one pass over the archive."""
        wanted = set(names)
        with tarfile.open(self.path, "r:*") as archive:
            for info in archive:
                name = PurePosixPath(info.name).as_posix()
                if wanted and name in wanted:
                    wanted.remove(name)
                    file = archive.extractfile(info)
                    assert file is not None  # only directories and devices have no content
                    yield name, file
                if not wanted:
                    return


def open_source(path: Path, limits: Limits | None = None) -> Source:
    """Open a folder, a text file or an archive, recognized by its content, whatever its name.

    Raises:
        UserError: missing, of another kind, damaged, or dangerous.
    """
    limits = limits or Limits()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".txt"):
        return FolderSource(path)
    if not path.is_file():
        raise UserError(f"--source {path}: there is no such file or folder; give what you downloaded.")
    if SPLIT_ARCHIVE.search(path.name):
        whole = path.with_suffix("") if path.suffix[1:].isdecimal() else path.with_suffix(".zip")
        raise UserError(
            f"--source {path}: is one part of a split archive; join the parts first "
            f"(cat {whole}.* > {whole}, on Windows copy /b), and give the result."
        )
    try:
        with path.open("rb") as file:
            head = file.read(TAR_MAGIC_AT + len(TAR_MAGIC))
    except OSError as error:
        raise UserError(f"--source {path}: cannot be read ({error.strerror}); check its permissions.") from error
    for magic, kind in FOREIGN.items():
        if head.startswith(magic):
            raise UserError(
                f"--source {path}: is a {kind} archive, which is not read here; unpack it (for example with 7-Zip, "
                "or 'unrar x' for RAR) and give the folder."
            )
    if head[:MAGIC_LENGTH] in ZIP_START:
        return ZipSource(path, limits)
    if head.startswith(GZIP_START) or head[TAR_MAGIC_AT:] == TAR_MAGIC:
        return TarSource(path, limits)
    found = "is empty" if not head else "is neither a folder nor a zip or tar archive"
    raise UserError(f"--source {path}: {found}; give the file as you downloaded it, or the unpacked folder.")
