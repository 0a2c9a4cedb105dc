"""From options to images: batches for training, whole images for a test, pairs for validation.

Below these functions nothing sees the parsed options.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import DATASETS, DEFAULT_VAL_PHASE
from data.cache import CacheRoom, default_budget
from data.datasets import DatasetSettings, TestDataset
from data.files import UnfitPairs, Unit, existing_folder
from data.loader import TrainingLoader
from data.transforms import TrainingTransform, WholeImageTransform
from util.engine.distributed import Ranks
from util.errors import UserError
from util.metrics.ssim import SSIM_WINDOW
from util.pictures import MODES
from util.streams import UNPAIRED, Stream, source_and_target

logger = logging.getLogger(__name__)

_GIGABYTE = 10**9


def create_training_loader(
    opt: argparse.Namespace,
    streams: Sequence[Stream] = UNPAIRED,
    *,
    device_type: str = "cpu",
    ranks: Ranks | None = None,
) -> TrainingLoader:
    """Find and check the training images of ``opt`` for a model's ``streams``, and make the loader for them.

    ``device_type`` is where batches go: for ``cuda`` they are put into pinned memory. ``ranks`` are the processes that
    share each batch out among themselves.

    Raises:
        UserError: missing or empty folders, unreadable images, images that do not fit the flags.
    """
    ranks = ranks or Ranks()
    dataset_class = DATASETS.get(opt.dataset_mode)
    own: dict[str, Any] = {option.name: getattr(opt, option.name) for option in dataset_class.options}
    settings = DatasetSettings(
        dataroot=_dataroot(opt),
        phase=opt.phase,
        streams=streams,
        direction=opt.direction,
        transform=TrainingTransform(
            preprocess=opt.preprocess,
            load_size=opt.load_size,
            crop_size=opt.crop_size,
            flip=not opt.no_flip,
            exposure=opt.jitter_exposure,
        ),
        channels={flag: _channels(opt, flag) for flag in {stream.channels for stream in streams}},
        serial_batches=opt.serial_batches,
        max_dataset_size=_limit(opt.max_dataset_size),
        skip_bad=opt.skip_bad,
        batch_size=opt.batch_size,
        cache_room=_cache_room(opt, ranks.local_world_size),
    )
    return TrainingLoader(
        dataset_class(settings, **own),
        batch_size=opt.batch_size,
        seed=opt.seed,
        shuffle=not opt.serial_batches,
        # More workers than processors only get in each other's way; the batches do not depend on their number.
        num_threads=min(opt.num_threads, os.cpu_count() or 1),
        pin_memory=device_type == "cuda",
        ranks=ranks,
    )


def create_test_dataset(opt: argparse.Namespace, streams: Sequence[Stream] = UNPAIRED) -> TestDataset:
    """Find and decode the source images of ``opt``, paired with ground truth as ``--eval_pairs`` says.

    Source and target are the first two of a model's ``streams``.

    Raises:
        UserError: missing or empty folders, unreadable images, pairs that do not match or are too small.
    """
    dataset_class = DATASETS.get(opt.dataset_mode)
    units = dataset_class.test_units(
        dataroot=_dataroot(opt),
        phase=opt.phase,
        ends=source_and_target(streams, opt.direction),
        eval_pairs=opt.eval_pairs,
    )
    return TestDataset(
        units,
        transform=WholeImageTransform(preprocess=opt.preprocess, load_size=opt.load_size),
        channels=(_channels(opt, "input_nc"), _channels(opt, "output_nc")),
        num_test=_limit(opt.num_test),
        skip_bad=opt.skip_bad,
        smallest_pair=SSIM_WINDOW,
    )


def create_validation_dataset(opt: argparse.Namespace, streams: Sequence[Stream] = UNPAIRED) -> TestDataset | None:
    """Find and decode the pairs that a training is validated on: whole images, as a test has them.

    None with ``--val_freq 0``; None, if that flag is not given, where there are no such folders; and None, after a
    warning, where the images have no ground truth.

    Raises:
        UserError: validation was asked for and there are no images; unreadable images; pairs that do not fit.
    """
    if opt.val_freq == 0:
        return None
    advice = "or pass --val_freq 0 to train without validation"
    try:
        units = _validation_units(opt, source_and_target(streams, opt.direction))
        if units and len(units[0]) == 1:
            logger.warning(
                "%d images of the %s split have no ground truth of the same names, so there is no validation; %s",
                *(len(units), opt.val_phase, "to have one, put their clean images into the other domain's folder"),
            )
        if not units or len(units[0]) == 1:
            return None
        return TestDataset(
            units,
            transform=WholeImageTransform(preprocess="none", load_size=opt.load_size),
            channels=(_channels(opt, "input_nc"), _channels(opt, "output_nc")),
            skip_bad=opt.skip_bad,
            smallest_pair=SSIM_WINDOW,
        )
    except UnfitPairs as error:
        raise UserError(f"validation on {opt.val_phase}: {error.complaint}; fix that, {advice}.") from error


def _validation_units(opt: argparse.Namespace, ends: tuple[str, str]) -> list[Unit]:
    """The units of ``--val_phase``; none where it has no images and validation was not asked for."""
    dataroot, phase = _dataroot(opt), opt.val_phase
    source = f"{phase}{ends[0]}"
    exists = any(existing_folder(dataroot, name) for name in (source, phase))
    asked = opt.val_freq is not None or phase != DEFAULT_VAL_PHASE
    if not exists and not asked:
        return []
    test_units = DATASETS.get(opt.dataset_mode).test_units
    try:
        return test_units(dataroot=dataroot, phase=phase, ends=ends, eval_pairs="auto")
    except UnfitPairs:
        raise
    except UserError as error:
        if exists:  # and is empty, or cannot be read
            raise
        raise UserError(
            f"--val_freq: {dataroot} has no folder '{source}' to validate on; make it, with ground truth of the same "
            "file names next to it, or pass --val_freq 0 to train without validation."
        ) from error


def _cache_room(opt: argparse.Namespace, processes: int) -> CacheRoom | None:
    """Room for decoded images in each of a machine's ``processes``, or None if they are not to be kept."""
    if opt.cache == "none":
        return None
    if opt.cache == "ram" and opt.cache_dir:
        raise UserError(f"--cache_dir {opt.cache_dir} is for --cache disk; add that, or leave the folder out.")
    budget = default_budget() if opt.cache_gb is None else int(opt.cache_gb * _GIGABYTE)
    budget //= processes
    if opt.cache == "ram":
        return CacheRoom(budget)
    return CacheRoom(budget, Path(opt.cache_dir or tempfile.gettempdir()).expanduser())


def _dataroot(opt: argparse.Namespace) -> Path:
    if not opt.dataroot:
        raise UserError("--dataroot is missing; give the folder that contains trainA, trainB and so on.")
    return Path(opt.dataroot).expanduser()


def _channels(opt: argparse.Namespace, name: str) -> int:
    """The channels that the option ``name`` asks for."""
    channels: int = getattr(opt, name)
    if channels not in MODES:
        raise UserError(f"--{name} {channels}: images are read with 1 channel (gray) or 3 (RGB); choose one of them.")
    return channels


def _limit(count: float | None) -> int | None:
    """A number of images; None and infinity, CycleGAN's default, mean all of them."""
    return None if count is None or math.isinf(count) else int(count)
