"""Rain100L and Rain100H (Yang et al., CVPR 2017), in the original release and its repackagings.

Original: ``RainTrainL/`` and ``Rain100L/`` with ``rain-1.png`` beside ``norain-1.png`` (the heavy test set has its
rainy images in ``rainy/``). The authors' archives: ``rain_data_train_Light/rain/X2/norain-1x2.png`` and
``.../norain/norain-1.png``. Others: ``train|test/small/rain|norain/``, ``Rain100L/input|target/``. Layers such as
``rainstreak-1.png`` are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.published.layouts.base import Expected, Layout, ReadText
from data.published.members import Found, Key, Member, Phase, images, join, numbered, phase_of, side_of

KEY = re.compile(r"(?:(?:no)?rain-)?(\d+)(?:x2)?", re.IGNORECASE)
LIGHT = re.compile(r"light|rain[12]00_?l\b|raintrainl", re.IGNORECASE)
HEAVY = re.compile(r"heavy|rain[12]00_?h\b|raintrainh", re.IGNORECASE)
NEW_RELEASE = (1800, 200)


def _key(stem: str) -> str | None:
    match = KEY.fullmatch(stem)
    return numbered(match[1]) if match else None


def _rainy_key(stem: str) -> Key | None:
    key = _key(stem)
    return None if key is None else (key, "")


def _phase(member: Member) -> Phase | None:
    """Where no folder says train or test, one named Rain100L or Rain100H is the test set."""
    by_name = re.search(r"(?i)rain[12]00_?[lh]\b", "/".join(member.path.parts[:-1]))
    return phase_of(member.path) or ("test" if by_name else None)


@dataclass(frozen=True)
class _Rain100(Layout):
    """What both have in common; scenes come several times under different numbers, so content is compared."""

    rule_text = (
        "training pairs whose clean image is in the test set are left out; training scenes sorted by name take turns: "
        "1st, 3rd, ... rainy side, 2nd, 4th, ... clean side; all test images"
    )
    compare_content = True

    def _own(self, members: Sequence[Member]) -> list[Member]:
        """The images that are not said to be of the other set."""
        _, theirs = self._marks()
        return [member for member in images(members) if not theirs.search("/".join(member.path.parts[:-1]))]

    def _marks(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        raise NotImplementedError

    def recognizes(self, members: Sequence[Member]) -> bool:
        """Numbered files in rainy and clean folders, in a folder that names the set."""
        ours, _ = self._marks()
        return any(
            ours.search("/".join(member.path.parts[:-1])) and side_of(member.path) and _key(member.stem)
            for member in self._own(members)
        )

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Pair by number within the training and the test set."""
        found = join(self._own(members), rainy_key=_rainy_key, clean_key=_key, phase=_phase)
        letter = self.title[-1]

        def newer(train: int, test: int) -> str:
            if test != NEW_RELEASE[1]:
                return ""
            return f" (200 test pairs are the authors' later release, known as Rain200{letter})"

        self.expected.check(found, newer)
        return found


@dataclass(frozen=True)
class Rain100L(_Rain100):
    """200 training and 100 test pairs."""

    title = "Rain100L"
    expected: Expected = field(default_factory=lambda: Expected(train=(200,), test=(100,)))

    def _marks(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return LIGHT, HEAVY


@dataclass(frozen=True)
class Rain100H(_Rain100):
    """1800 training pairs, or the 1254 that show none of the test scenes, and 100 test pairs."""

    title = "Rain100H"
    expected: Expected = field(default_factory=lambda: Expected(train=(1800, 1254), test=(100,)))

    def _marks(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return HEAVY, LIGHT
