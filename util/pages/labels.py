"""Headings in words for the technical labels of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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
