"""Clean photographs with rain drawn on each sample while it is loaded: ``--dataset_mode rain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.datasets import DatasetSettings, Sample, StreamDataset
from data.files import find_images, require_images
from data.rain.fresh import rainy_pair
from data.sampler import SampleKey
from data.transforms import Pixels
from util.errors import UserError
from util.option import Option
from util.pictures import read_eight_bit
from util.streams import Stream

TRANSPOSED, UPSIDE_DOWN = 0.25, 0.1


class RainDataset(StreamDataset):
    """The model's second stream is read (``<phase>B``, clean photographs), its first is the same in the rain.

    No two samples have the same rain: see :mod:`data.rain.fresh`. The clean side may come under another light.
    Validation and tests use pairs that exist.
    """

    generates = True
    options = (
        Option(
            "epoch_size", 0, "samples in an epoch, of photographs in an order of its own; 0 = one of each", minimum=0
        ),
        Option(
            "rain_layers", "", "folder of layers of real rain (scripts/extract_rain.py) to put on some of the samples"
        ),
    )

    def __init__(self, settings: DatasetSettings, *, epoch_size: int = 0, rain_layers: str = "", **own: Any) -> None:
        """Raises :class:`UserError` as its bases do, and for images that are not RGB or a folder without layers."""
        self.epoch_size = epoch_size
        self._layers = _read_layers(Path(rain_layers).expanduser()) if rain_layers else []
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
        """The crop in the rain, and the crop, at times turned by a quarter or upside down before."""
        rainy, clean = self._names
        crop = crops[clean]
        if rng.random() < TRANSPOSED and crop.shape[0] == crop.shape[1]:
            crop = crop.transpose(1, 0, 2)
        if rng.random() < UPSIDE_DOWN:
            crop = crop[::-1]
        before, after, _ = rainy_pair(np.ascontiguousarray(crop), rng, self._layers)
        return {rainy: before, clean: after}

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self.epoch_size or super().__len__()

    def __getitem__(self, key: SampleKey) -> Sample:
        """A photograph in the rain; see the base."""
        if self.epoch_size:
            key = replace(key, index=key.partner(super().__len__()))
        return super().__getitem__(key)


def _read_layers(folder: Path) -> list[Pixels]:
    """All layers of a folder, uint8 [H, W]."""
    if not folder.is_dir():
        raise UserError(f"--rain_layers {folder}: there is no such folder; scripts/extract_rain.py writes one.")
    return [np.asarray(read_eight_bit(file.path, 1)) for file in require_images(folder, find_images(folder))]
