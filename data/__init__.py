"""Datasets by name. Importing this costs little: PyTorch comes with the dataset that is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from util.registry import Registry

if TYPE_CHECKING:
    from data.loader import TrainingDataset

DEFAULT_VAL_PHASE = "val"
CACHES = ("ram", "disk", "none")

DATASETS: Registry[type[TrainingDataset]] = Registry(
    "dataset",
    "--dataset_mode",
    {
        "aligned": "data.aligned_dataset:AlignedDataset",
        "single": "data.single_dataset:SingleDataset",
        "unaligned": "data.unaligned_dataset:UnalignedDataset",
    },
)
