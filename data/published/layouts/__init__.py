"""The layouts, one module per family of data sets."""

from __future__ import annotations

from data.published.layouts.base import Expected, Layout
from data.published.layouts.folder_pairs import FolderPairs
from data.published.layouts.rain100 import Rain100H, Rain100L
from data.published.layouts.rain800 import Rain800
from data.published.layouts.rain1400 import Rain1400
from data.published.layouts.raincityscapes import RainCityscapes
from data.published.layouts.spa import Spa

LAYOUTS: dict[str, type[Layout]] = {
    "raincityscapes": RainCityscapes,
    "spa": Spa,
    "rain100l": Rain100L,
    "rain100h": Rain100H,
    "rain800": Rain800,
    "rain1400": Rain1400,
    "folder-pairs": FolderPairs,
}
"""Every data set by the name on the command line; the most specific come first, as a source is recognized in order."""

__all__ = ["LAYOUTS", "Expected", "FolderPairs", "Layout", "Rain100H", "Rain100L", "Rain800", "Rain1400",
           "RainCityscapes", "Spa"]  # fmt: skip
