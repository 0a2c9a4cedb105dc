"""SPA-Data (Wang et al., CVPR 2019): crops of real rain videos with clean targets computed from their frames.

Training: ``real_world/<video>/<video>-<frame>/<video>-<frame>_<x>_<y>.png`` and ``real_world_gt/``, paired by the list
``real_world.txt``. Test: ``real_test_1000/`` with ``real_test_1000.txt``. Each line is ``rainy clean``, from the folder
above. Repackagings of the test set (``test/small/rain|norain/norain-1.png``) need no list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.published.layouts.base import Expected, Layout, ReadText
from data.published.members import Found, Key, Member, Pair, Picture, images, join, numbered, side_of, some
from data.published.splitting import SplitRule

TRAIN_FOLDERS, TEST_FOLDER = ("real_world", "real_world_gt"), "real_test_1000"
LISTS = {"real_world.txt": "train", "real_test_1000.txt": "test"}
CROP = re.compile(r"(?P<video>\d+)-(?P<frame>\d+)_(?P<x>\d+)_(?P<y>\d+)")
TEST_STEM = re.compile(r"(?:(?:no)?rain-)?(.+?)(?:gt)?", re.IGNORECASE)
COMPLETE_TRAIN, COMPLETE_TEST = 638_492, 1000


@dataclass(frozen=True)
class Spa(Layout):
    """Recognized by its folders; scenes are videos."""

    title = "SPA-Data"
    rule_text = (
        "training videos sorted by number take turns: 1st, 3rd, ... rainy side, 2nd, 4th, ... clean side; of each "
        "side's images sorted by name those at floor(i*N/2000), of the test images those at floor(i*N/200)"
    )
    expected: Expected = field(default_factory=lambda: Expected(train=(COMPLETE_TRAIN,), test=(COMPLETE_TEST,)))
    rule: SplitRule = field(default_factory=lambda: SplitRule(rainy=2000, clean=2000, test=200))

    def recognizes(self, members: Sequence[Member]) -> bool:
        """A folder real_world or real_test_1000 with images."""
        known = {*TRAIN_FOLDERS, TEST_FOLDER}
        return any(not known.isdisjoint(member.folders) for member in images(members))

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Pairs by the lists where they are, else by the names."""
        found = Found()
        files = _Files(images(members))
        lists = {LISTS[m.file]: m for m in members if m.file in LISTS}
        for phase, pairs in (("train", found.train), ("test", found.test)):
            if phase in lists:
                pairs += _listed(lists[phase], read_text(lists[phase]), files, found, phase)
            elif phase == "train":
                pairs += files.training_by_name()
            else:
                by_name = _test_by_name(files.members)
                pairs += by_name.test
                found.problems += by_name.problems
        self.expected.check(found)
        return found


class _Files:
    """The images of a source, found by the end of their path."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._by_name: dict[str, list[Member]] = {}
        for member in members:
            self._by_name.setdefault(member.file, []).append(member)

    def ending(self, path: str) -> Member | None:
        """The file whose path ends in ``path``."""
        wanted = "/" + path.removeprefix(".").lstrip("/")
        candidates = self._by_name.get(wanted.rsplit("/", 1)[-1], [])
        return next((member for member in candidates if f"/{member}".endswith(wanted)), None)

    def training_by_name(self) -> list[Pair]:
        """``000/000-7/000-7_10_20.png`` with the file of that name, or ``000/000_10_20.png``, in real_world_gt."""
        gt = {member.stem: member for member in self.members if TRAIN_FOLDERS[1] in member.folders}
        pairs = []
        for member in self.members:
            match = CROP.fullmatch(member.stem)
            if match is None or TRAIN_FOLDERS[0] not in member.folders:
                continue
            clean = gt.get(member.stem) or gt.get(f"{match['video']}_{match['x']}_{match['y']}")
            if clean is not None:
                pairs.append(_pair(member, clean, match["video"]))
        return pairs


def _listed(listing: Member, text: str, files: _Files, found: Found, phase: str) -> list[Pair]:
    """The pairs of a list; lines whose files are missing are a problem."""
    pairs, missing = [], []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        members = [files.ending(word) for word in words] if len(words) == 2 else [None]
        if None in members:
            missing.append(line.strip())
            continue
        rainy, clean = (member for member in members if member is not None)
        match = CROP.fullmatch(rainy.stem)
        pairs.append(_pair(rainy, clean, match["video"] if match and phase == "train" else _test_key(rainy.stem)))
    if missing:
        found.problems.append(f"{len(missing)} line(s) of '{listing}' name files that are not there ({some(missing)})")
    return pairs


def _test_key(stem: str) -> str:
    """The number in a test image's name; other names are left as they are."""
    match = TEST_STEM.fullmatch(stem)
    return numbered(match[1]) if match else stem


def _pair(rainy: Member, clean: Member, scene: str) -> Pair:
    return Pair(_test_key(rainy.stem), Picture(rainy), Picture(clean), scene, clean.stem, str(clean))


def _test_by_name(members: Sequence[Member]) -> Found:
    """Pair the test images by name: folders rain and norain, or the ending gt."""

    def rainy_key(stem: str) -> Key:
        return _test_key(stem), ""

    files = [m for m in members if set(TRAIN_FOLDERS).isdisjoint(m.folders) and side_of(m.path)]
    of_test = [m for m in files if any("test" in part.lower() for part in m.folders)]
    return join(of_test, rainy_key=rainy_key, clean_key=_test_key, phase=lambda member: "test")
