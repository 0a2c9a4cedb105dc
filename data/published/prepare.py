"""The whole way from the sources to a prepared data set."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.manifest import existing, write_manifest
from data.published.archives import DamagedSource, Limits, Source, open_source
from data.published.contents import group_by_content
from data.published.layouts import LAYOUTS, Layout
from data.published.members import Found, Member, some
from data.published.splitting import Share, Split, SplitRule, make_split
from data.published.writing import CHECKSUMS, Output, Stage, write_checksums, write_outputs
from util.errors import UserError
from util.files import real_path
from util.staging import Staging

MADE_BY = "prepare_dataset"
VERSION = 1
"""Raised when the same source and options give other files."""
TEXT_LIMIT = 1 << 28
UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"|?*\\]')


@dataclass(frozen=True)
class Prepared:
    """What was done: images per part, hash of the file list, remarks; ``changed`` is False if all was there before."""

    counts: dict[str, int]
    sha256: str
    notes: list[str]
    changed: bool


@dataclass(frozen=True)
class Request:
    """What the user wants besides the data set itself. ``full`` keeps all images where the rule would thin them out."""

    val: Share | None = None
    full: bool = False
    copy: bool = False
    allow_incomplete: bool = False

    def options(self, layout: Layout) -> dict[str, Any]:
        """Everything that the result depends on, for the manifest."""
        own = {
            key: getattr(layout, key) for key in ("rainy_half", "rainy_suffix", "clean_suffix") if hasattr(layout, key)
        }
        test = {"test": layout.test.number} if hasattr(layout, "test") else {}
        val = None if self.val is None else self.val.number
        return {"val": val, "full": self.full, "allow_incomplete": self.allow_incomplete, **own, **test}


def prepare(
    name: str,
    layout: Layout,
    source_paths: Sequence[Path],
    out: Path,
    request: Request | None = None,
    limits: Limits | None = None,
) -> Prepared:
    """Prepare the data set ``name`` from its sources in the folder ``out``.

    ``out`` appears when it is complete. Sources are only read.

    Raises:
        UserError: sources that are missing, damaged, of another data set or incomplete; an ``out`` that cannot be used.
    """
    request = request or Request()
    if request.full:
        if layout.rule == SplitRule():
            raise UserError(f"--full: {name} is always used whole; leave the flag out.")
        layout = replace(layout, rule=SplitRule())
    _check_places(source_paths, out)
    sources = [open_source(path, limits) for path in source_paths]
    members = [member for position, source in enumerate(sources) for member in source.members(position)]
    wanted = fingerprint(name, request.options(layout), members)
    if (before := _already_there(out, wanted)) is not None:
        return before
    found = _find(name, layout, sources, members, request.allow_incomplete)
    if layout.compare_content:
        found = group_by_content(found, sources)
    split = make_split(found.train, found.test, layout.rule, request.val) if found.train else Split(test=found.test)
    outputs = plan(split)
    counts = {part: len(pictures) for part, pictures in _parts(split).items()}
    about = _describe(name, layout, request, sources, found)
    with Staging(out, "--out", resume=True) as staging:
        stage = Stage(staging, wanted)
        try:
            written = write_outputs(outputs, sources, stage, copy=request.copy)
        except DamagedSource:
            staging.discard()
            raise
        sha256 = write_checksums(stage.files, written)
        about |= {"counts": counts, "scenes": split.scenes(), "files": {"list": CHECKSUMS, "sha256": sha256}}
        write_manifest(stage.files, MADE_BY, wanted, about)
        stage.publish()
    return Prepared(counts, sha256, found.notes + found.problems, changed=True)


def fingerprint(dataset: str, options: Mapping[str, Any], members: Iterable[Member]) -> str:
    """Changes with everything that the result depends on, as far as can be known without reading the images."""
    digest = hashlib.sha256(json.dumps([VERSION, dataset, dict(options)], sort_keys=True).encode())
    for member in members:
        digest.update(f"\n{member.source} {member.size} {member.label}/{member.name}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _rule_text(layout: Layout, request: Request) -> str:
    """The rule in words, with what the options change in it."""
    val = "evenly spaced training scenes are held out first for validation; " if request.val else ""
    return val + layout.rule_text + ("; --full: all images instead of these numbers" if request.full else "")


def _describe(name: str, layout: Layout, request: Request, sources: Sequence[Source], found: Found) -> dict[str, Any]:
    """What was asked for, and what was found, for the manifest."""
    return {
        "dataset": name,
        "title": layout.title,
        "sources": [_describe_source(source) for source in sources],
        "rule": _rule_text(layout, request),
        "seed": None,
        "options": request.options(layout),
        "notes": found.notes,
        "incomplete": found.problems,
    }


def _describe_source(source: Source) -> dict[str, Any]:
    return {
        "name": real_path(source.path).name,
        "kind": source.kind,
        "files": len(source.sizes),
        "bytes": sum(source.sizes.values()),
    }


def _check_places(source_paths: Sequence[Path], out: Path) -> None:
    if out.name in ("", ".."):
        raise UserError(f"--out {out}: name a new folder.")
    target = real_path(out)
    for path in source_paths:
        source = real_path(path)
        if target == source or source in target.parents or target in source.parents:
            raise UserError(f"--out {out}: is inside --source {path} or contains it; choose a folder next to it.")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a new folder.")


def _already_there(out: Path, wanted: str) -> Prepared | None:
    """The finished result of an equal run, or None where nothing is.

    Raises:
        UserError: there is something else, or the result was damaged since.
    """
    manifest = existing(out, MADE_BY, wanted, flag="--out")
    if manifest is None:
        return None
    notes = [*(manifest.get("notes") or []), *(manifest.get("incomplete") or [])]
    return Prepared(dict(manifest["counts"]), str(manifest["files"]["sha256"]), notes, changed=False)


def _find(
    name: str, layout: Layout, sources: Sequence[Source], members: Sequence[Member], allow_incomplete: bool
) -> Found:
    """The pairs of the sources, or a sentence about what is wrong with them."""
    flag = "--source " + " ".join(str(source.path) for source in sources)
    recognized = layout.recognizes(members)
    if not recognized:
        other = next((key for key, kind in LAYOUTS.items() if key != name and kind().recognizes(members)), None)
        if other is not None and other != "folder-pairs":
            raise UserError(
                f"{flag}: is not {layout.title} but looks like {LAYOUTS[other].title}; prepare it as '{other}'."
            )

    def read_text(member: Member) -> str:
        for _, reader in sources[member.source].read([member.name]):
            return reader.read(TEXT_LIMIT).decode("utf-8", errors="replace")
        raise AssertionError(f"{member} was listed")

    found = layout.find(members, read_text)
    empty = [str(p.member) for pair in found.pairs() for p in (pair.rainy, pair.clean) if p.member.size == 0]
    if empty:
        raise UserError(f"{flag}: {len(empty)} file(s) are empty ({some(empty)}); the source is damaged, get it again.")
    usable = bool(found.train or found.test)
    if not usable and not (recognized and found.problems):
        what = "; ".join(found.problems) or "no file has a name of that data set"
        holds = (
            f"it holds {len(members)} file(s), such as {some(str(m) for m in members)}" if members else "it is empty"
        )
        raise UserError(f"{flag}: nothing of {layout.title} is there: {what}; {holds}.")
    if found.problems and not (allow_incomplete and usable):
        advice = ", or pass --allow_incomplete to use what is there" if usable else ""
        what = "; ".join(found.problems)
        raise UserError(f"{flag}: is not a complete {layout.title}: {what}; get what is missing{advice}.")
    return found


def _parts(split: Split) -> Mapping[str, list[Output]]:
    """The files of each part that has any."""
    parts = {
        "trainA": [(pair.name, pair.rainy) for pair in split.rainy],
        "trainB": [(pair.clean_name, pair.clean) for pair in split.clean],
        "valA": [(pair.name, pair.rainy) for pair in split.val],
        "valB": [(pair.name, pair.clean) for pair in split.val],
        "testA": [(pair.name, pair.rainy) for pair in split.test],
        "testB": [(pair.name, pair.clean) for pair in split.test],
    }
    return {
        part: [Output(f"{part}/{name}{picture.suffix}", picture) for name, picture in entries]
        for part, entries in parts.items()
        if entries
    }


def plan(split: Split) -> list[Output]:
    """The files of the data set.

    Raises:
        UserError: two would have the same name, also where letter case does not count.
    """
    outputs = [output for entries in _parts(split).values() for output in entries]
    taken: dict[str, Output] = {}
    for output in outputs:
        if UNSAFE.search(output.path):
            raise UserError(f"--source: '{output.picture.member}' has a name no file may have everywhere; rename it.")
        other = taken.setdefault(output.path.casefold(), output)
        if other is not output:
            raise UserError(
                f"--source: '{other.picture.member}' and '{output.picture.member}' would both become '{output.path}'; "
                "rename one of them."
            )
    return outputs
