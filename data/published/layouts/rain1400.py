"""Rain1400, also Rain12600 or Rain14000 (Fu et al., CVPR 2017): 1000 clean images, each in 14 kinds of rain.

``training|testing/rainy_image/901_1.jpg`` with ``ground_truth/901.jpg``; older: ``rainy image/`` and ``ground truth/``
without a division, where 901 to 1000 are the test set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.published.layouts.base import Expected, Layout, ReadText
from data.published.members import Found, Key, Member, Phase, images, join, numbered, phase_of, side_of

RAINY = re.compile(r"(\d+)_(\d+)")
LAST_TRAINING_SCENE = 900
VERSIONS = 14


def _rainy_key(stem: str) -> Key | None:
    match = RAINY.fullmatch(stem)
    return (numbered(match[1]), f"{int(match[2]):02d}") if match else None


def _clean_key(stem: str) -> str | None:
    return numbered(stem) if stem.isdecimal() else None


@dataclass(frozen=True)
class Rain1400(Layout):
    """Recognized by rainy names of two numbers."""

    title = "Rain1400"
    rule_text = (
        "training scenes sorted by number take turns: 1st, 3rd, ... rainy side with all 14 versions, 2nd, 4th, ... "
        "clean side; all test images"
    )
    expected: Expected = field(default_factory=lambda: Expected(train=(900 * VERSIONS,), test=(100 * VERSIONS,)))
    last_training_scene: int = LAST_TRAINING_SCENE

    def recognizes(self, members: Sequence[Member]) -> bool:
        """Any rainy file in a rainy folder."""
        return any(side_of(m.path) == "rainy" and RAINY.fullmatch(m.stem) for m in images(members))

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Pair each rainy image with the clean one of the same number."""

        def phase(member: Member) -> Phase | None:
            number = int(re.match(r"\d*", member.stem)[0] or 0)  # type: ignore[index]  # matches everything
            return phase_of(member.path) or ("train" if number <= self.last_training_scene else "test")

        found = join(images(members), rainy_key=_rainy_key, clean_key=_clean_key, phase=phase)
        self.expected.check(found)
        return found
