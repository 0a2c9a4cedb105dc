"""The split: which pairs train, validate and test. Nothing is drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data.published.members import Pair
from util.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class SplitRule:
    """How many images of each kind are kept; None keeps all."""

    rainy: int | None = None
    clean: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Share:
    """A number of images, or a fraction of what there is."""

    value: float

    def of(self, total: int) -> int:
        """The number of images; at least one."""
        return int(self.value) if self.value >= 1 else max(1, round(self.value * total))

    @property
    def number(self) -> int | float:
        """The value for the manifest: a whole number of images, or the fraction."""
        return int(self.value) if self.value >= 1 else self.value

    @classmethod
    def parse(cls, text: str, flag: str) -> Share:
        """From a whole number of at least 1 or a fraction between 0 and 1.

        Raises:
            UserError: it is neither.
        """
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not (0 < value < 1 or (value >= 1 and value.is_integer())):
            raise UserError(f"{flag} {text}: must be a number of images or a fraction such as 0.1.")
        return cls(value)


@dataclass
class Split:
    """The pairs of each part. ``rainy`` lends its rainy images to trainA, ``clean`` its clean ones to trainB."""

    rainy: list[Pair] = field(default_factory=list)
    clean: list[Pair] = field(default_factory=list)
    val: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)

    def scenes(self) -> dict[str, int]:
        """Number of distinct scenes per part."""
        parts = {"trainA": self.rainy, "trainB": self.clean, "val": self.val, "test": self.test}
        return {name: len({pair.scene for pair in pairs}) for name, pairs in parts.items() if pairs}


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """``count`` of ``items``: those at the positions floor(i·N/count). All of them if ``count`` is None or larger."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def make_split(train: Sequence[Pair], test: Sequence[Pair], rule: SplitRule, val: Share | None = None) -> Split:
    """Split ``train`` into unpaired sides (and validation pairs), and thin out ``test``.

    The scenes of ``train``, sorted, take turns: the first lends its rainy images to trainA, the second its clean
    ones to trainB, and so on. So no scene is on both sides, and both sides show the same kind of scenes. Validation
    takes its scenes first, evenly spaced. Of the images of each part, sorted by name, evenly spaced ones are kept.

    Raises:
        UserError: too few scenes for two sides.
    """
    ordered = sorted(train, key=lambda pair: pair.name)
    scenes = sorted({pair.scene for pair in ordered})
    held_out: set[str] = set()
    split = Split(test=evenly_spaced(sorted(test, key=lambda pair: pair.name), rule.test))
    if val is not None and ordered:
        split.val = _validation(ordered, scenes, val, rule)
        held_out = {pair.scene for pair in split.val}
    left = [scene for scene in scenes if scene not in held_out]
    rainy, clean = set(left[0::2]), set(left[1::2])
    if not clean:
        raise UserError(
            f"--source: of {len(scenes)} training scene(s) {len(left)} are left for training, but unpaired training "
            "needs at least 2, one for each side; give more images or a smaller --val."
        )
    split.rainy = evenly_spaced([pair for pair in ordered if pair.scene in rainy], rule.rainy)
    by_content = {pair.content: pair for pair in reversed(ordered) if pair.scene in clean}
    split.clean = evenly_spaced(sorted(by_content.values(), key=lambda pair: pair.clean_name), rule.clean)
    return split


def _validation(ordered: list[Pair], scenes: list[str], val: Share, rule: SplitRule) -> list[Pair]:
    """The validation pairs: from as large a share of the scenes as of the images that are trained on."""
    total = min(len(ordered), rule.rainy or len(ordered))
    count = val.of(total)
    scene_count = max(1, -(-count * len(scenes) // (total + (count if rule.rainy else 0))))
    while True:
        chosen = set(evenly_spaced(scenes, scene_count))
        pairs = [pair for pair in ordered if pair.scene in chosen]
        if len(pairs) >= count or scene_count >= len(scenes):
            return evenly_spaced(pairs, count)
        scene_count += 1
