"""What many tests share: a tiny rain dataset and networks small enough for a test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.browser import browser, usual_page, visit  # noqa: F401  (fixtures)
from tests.hostile_world import world  # noqa: F401  (a fixture)
from util.command_line import OURS
from util.engine.schedule import Progress

TRAIN_SIZE = (40, 36)  # width, height
TEST_SIZES = ((41, 37), (64, 48))

SMALL_NETWORKS = ("--ngf", "4", "--ndf", "4", "--netG", "resnet_6blocks")
SMALL_CROPS = ("--load_size", "36", "--crop_size", "32")
QUIET = ("--display_id", "0", "--gpu_ids", "-1", "--num_threads", "0")
SMALL_CCLGAN = ("--semantic_encoder", "efficientnet_lite0", "--semantic_size", "32", "--num_patches", "16",
                "--inter_patches", "16")  # fmt: skip


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Programs set up logging for their process; here several of them share one."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *OURS)}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny networks are slower on several threads, and tests run beside others."""
    torch.set_num_threads(1)


def draw_photo(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A smooth random color image [H, W, 3] uint8."""
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def draw_rain(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """The photo with a few bright vertical streaks."""
    rainy = photo.astype(np.int32)
    for column in rng.integers(0, photo.shape[1], 6):
        rainy[:, column] += 90
    return rainy.clip(0, 255).astype(np.uint8)


def write_rain_dataset(root: Path, *, train_images: int = 3) -> Path:
    """trainA and trainB unpaired and of different number, testA and testB paired by name."""
    rng = np.random.default_rng(7)

    def save(pixels: np.ndarray, part: str, name: str) -> None:
        path = root / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for number in range(train_images):
        save(draw_rain(rng, draw_photo(rng, TRAIN_SIZE)), "trainA", f"rainy_{number}")
    for number in range(train_images + 1):
        save(draw_photo(rng, TRAIN_SIZE), "trainB", f"clean_{number}")
    for number, size in enumerate(TEST_SIZES):
        photo = draw_photo(rng, size)
        save(draw_rain(rng, photo), "testA", f"scene_{number}")
        save(photo, "testB", f"scene_{number}")
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Folder of a tiny rain dataset."""
    return write_rain_dataset(tmp_path / "data")


def small_model_flags(model: str) -> list[str]:
    """Flags that make ``model`` small enough for a test."""
    flags = ["--model", model, *SMALL_NETWORKS, *SMALL_CROPS, *QUIET]
    return [*flags, *SMALL_CCLGAN] if model == "cclgan" else flags


def at(images: int, **more: int) -> Progress:
    """The step after so many images of batches of one."""
    return Progress(images=images, step=images, **more)
