"""Headings in words for the technical labels of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

INPUT, OUTPUT, TARGET = "real_A", "fake_B", "real_B"
"""What a test shows: the labels of its input, its output and the ground truth."""

LABEL_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "real_A": "rainy input",
        "fake_B": "derained",
        "rec_A": "rain put back",
        "idt_B": "rainy input through the rain generator",
        "real_B": "rain-free photo",
        "fake_A": "rain added",
        "rec_B": "rain removed again",
        "idt_A": "rain-free photo through the derainer",
    }
)

# True of any two sides: the model's source side is called A, whichever folder it comes from.
_GENERIC_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "real_A": "input",
        "fake_B": "output",
        "rec_A": "output turned back",
        "idt_B": "input through the generator back",
        "real_B": "photo of the other side",
        "fake_A": "other side turned back",
        "rec_B": "other side restored",
        "idt_A": "other side through the generator",
    }
)

_BY_DIRECTION: Mapping[str, Mapping[str, str]] = MappingProxyType({"AtoB": LABEL_WORDS, "BtoA": _GENERIC_WORDS})


def headings(direction: str) -> Mapping[str, str]:
    """Headings (label -> words) for a model that works in ``direction``.

    From A, the rainy side, to B (``"AtoB"``) they speak of rain; the other way (``"BtoA"``), where the input has no
    rain and the output may have, they do not.

    Raises:
        ValueError: any other direction.
    """
    if direction not in _BY_DIRECTION:
        raise ValueError(f"direction is {direction!r} instead of one of {list(_BY_DIRECTION)}")
    return _BY_DIRECTION[direction]
