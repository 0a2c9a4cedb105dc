"""How often a training reports and saves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frequencies:
    """How many images lie between two of each; epochs between two numbered checkpoints."""

    print_freq: int
    display_freq: int
    update_html_freq: int
    save_latest_freq: int
    save_epoch_freq: int
    save_by_iter: bool


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]: right for any batch size."""
    return before // every != after // every
