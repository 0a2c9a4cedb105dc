"""Datasets, and the two doors to them: batches for training and whole images for a test.

Below these two functions nothing sees the parsed options.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from data.loader import DatasetSettings, TrainingDataset, TrainingLoader
from data.reading import MODES
from data.test_dataset import TestDataset, TestItem
from data.transforms import TrainingTransform, WholeImageTransform
from util.errors import UserError
from util.registry import Registry

__all__ = [
    "DATASETS",
    "DatasetSettings",
    "TestDataset",
    "TestItem",
    "TrainingDataset",
    "TrainingLoader",
    "create_test_dataset",
    "create_training_loader",
]

SMALLEST_PAIR = 11
"""Pixels a side that SSIM's window needs: ``util.metrics.SSIM_WINDOW``, whose import is slow."""

DATASETS: Registry[type[TrainingDataset]] = Registry(
    "dataset",
    "--dataset_mode",
    {
        "aligned": "data.aligned_dataset:AlignedDataset",
        "single": "data.single_dataset:SingleDataset",
        "unaligned": "data.unaligned_dataset:UnalignedDataset",
    },
)


def create_training_loader(opt: argparse.Namespace, device_type: str = "cpu") -> TrainingLoader:
    """Find and check the training images of ``opt`` and make the loader for them.

    ``device_type`` is where batches go: for ``cuda`` they are put into pinned memory.

    Raises:
        UserError: missing or empty folders, unreadable images, images that do not fit the flags.
    """
    dataset_class = DATASETS.get(opt.dataset_mode)
    own: dict[str, Any] = {option.name: getattr(opt, option.name) for option in dataset_class.options}
    settings = DatasetSettings(
        dataroot=_dataroot(opt),
        phase=opt.phase,
        direction=opt.direction,
        transform=TrainingTransform(
            preprocess=opt.preprocess, load_size=opt.load_size, crop_size=opt.crop_size, flip=not opt.no_flip
        ),
        channels=_channels(opt),
        serial_batches=opt.serial_batches,
        max_dataset_size=_limit(opt.max_dataset_size),
        skip_bad=opt.skip_bad,
        batch_size=opt.batch_size,
    )
    return TrainingLoader(
        dataset_class(settings, **own),
        batch_size=opt.batch_size,
        seed=opt.seed,
        shuffle=not opt.serial_batches,
        # More workers than processors only get in each other's way; the batches do not depend on their number.
        num_threads=min(opt.num_threads, os.cpu_count() or 1),
        pin_memory=device_type == "cuda",
    )


def create_test_dataset(opt: argparse.Namespace) -> TestDataset:
    """Find and decode the source images of ``opt``, paired with ground truth as ``--eval_pairs`` says.

    Raises:
        UserError: missing or empty folders, unreadable images, pairs that do not match or are too small.
    """
    dataset_class = DATASETS.get(opt.dataset_mode)
    units = dataset_class.test_units(
        dataroot=_dataroot(opt), phase=opt.phase, direction=opt.direction, eval_pairs=opt.eval_pairs
    )
    return TestDataset(
        units,
        transform=WholeImageTransform(preprocess=opt.preprocess, load_size=opt.load_size),
        channels=_channels(opt),
        num_test=_limit(opt.num_test),
        skip_bad=opt.skip_bad,
        smallest_pair=SMALLEST_PAIR,
    )


def _dataroot(opt: argparse.Namespace) -> Path:
    if not opt.dataroot:
        raise UserError("--dataroot is missing; give the folder that contains trainA, trainB and so on.")
    return Path(opt.dataroot).expanduser()


def _channels(opt: argparse.Namespace) -> tuple[int, int]:
    """Channels of source and target."""
    for flag, channels in (("--input_nc", opt.input_nc), ("--output_nc", opt.output_nc)):
        if channels not in MODES:
            raise UserError(f"{flag} {channels}: images are read with 1 channel (grey) or 3 (RGB); choose one of them.")
    return (opt.input_nc, opt.output_nc)


def _limit(count: float | None) -> int | None:
    """A number of images; None and infinity, CycleGAN's default, mean all of them."""
    return None if count is None or math.isinf(count) else int(count)
