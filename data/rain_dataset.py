"""Clean photographs with rain drawn on each sample while it is loaded: ``--dataset_mode rain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data.datasets import DatasetSettings, StreamDataset
from data.rain.fresh import rainy_pair
from data.transforms import Pixels
from util.errors import UserError
from util.streams import Stream


class RainDataset(StreamDataset):
    """The model's second stream is read (``<phase>B``, clean photographs), its first is the same in the rain.

    No two samples have the same rain: see :mod:`data.rain.fresh`. The clean side may come under another light.
    Validation and tests use pairs that exist.
    """

    generates = True

    def __init__(self, settings: DatasetSettings, **own: Any) -> None:
        """Raises :class:`UserError` as its bases do, and for images that are not RGB."""
        if set(settings.channels.values()) != {3}:
            raise UserError("--dataset_mode rain draws on color images; set --input_nc 3 and --output_nc 3.")
        super().__init__(settings, **own)

    @classmethod
    def paired(cls, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """Source and target, the source made from the target."""
        if len(streams) != 2:
            names = " and ".join(stream.name for stream in streams)
            raise UserError(
                f"--dataset_mode rain makes rainy images from clean ones, but this model trains on {names}; "
                "use unaligned or aligned."
            )
        rainy, clean = streams
        return (
            replace(rainy, generated=True, paired_with=None),
            replace(clean, generated=False, paired_with=rainy.name),
        )

    def generate(self, crops: dict[str, Pixels], rng: np.random.Generator) -> dict[str, Pixels]:
        """The crop in the rain, and the crop."""
        rainy, clean = self._names
        before, after, _ = rainy_pair(crops[clean], rng)
        return {rainy: before, clean: after}
