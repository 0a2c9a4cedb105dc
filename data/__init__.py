"""Datasets by name. Importing this costs little: PyTorch comes with the dataset that is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from util.registry import Registry

if TYPE_CHECKING:
    from data.datasets import TrainingDataset

DEFAULT_VAL_PHASE = "val"
CACHES = ("ram", "disk", "none")

DATASETS: Registry[type[TrainingDataset]] = Registry(
    "dataset",
    "--dataset_mode",
    {
        "aligned": "data.datasets:AlignedDataset",
        "rain": "data.rain_dataset:RainDataset",
        "single": "data.datasets:SingleDataset",
        "unaligned": "data.datasets:UnalignedDataset",
    },
)
