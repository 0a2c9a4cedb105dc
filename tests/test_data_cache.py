"""The cache of decoded images: what was put comes back, in every process, within its budget."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cache import CacheRoom, ImageCache, default_budget
from data.datasets import AlignedDataset, DatasetSettings, UnalignedDataset
from data.loader import TrainingLoader
from data.transforms import TrainingTransform
from util.errors import UserError

SHAPES = ((4, 6, 3), (3, 5, 3), (2, 2, 1))


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPES[number], dtype=np.uint8)


@pytest.fixture(params=["memory", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "cache"


def test_what_was_put_comes_back(folder: Path | None) -> None:
    cache = ImageCache(SHAPES, budget=1000, folder=folder)
    assert cache.get(1) is None
    for number in (2, 0, 1):
        cache.put(number, pixels(number))
    for number in range(3):
        kept = cache.get(number)
        assert kept is not None
        np.testing.assert_array_equal(kept, pixels(number))


def _put_in_another_process(cache: ImageCache) -> bool:
    cache.put(1, pixels(1))
    return cache.get(0) is not None


@pytest.mark.parametrize("method", sorted(set(multiprocessing.get_all_start_methods()) & {"fork", "spawn"}))
def test_processes_see_each_others_images(folder: Path | None, method: str) -> None:
    cache = ImageCache(SHAPES, budget=1000, folder=folder)
    cache.put(0, pixels(0))
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_put_in_another_process, (cache,))
    kept = cache.get(1)
    assert kept is not None
    np.testing.assert_array_equal(kept, pixels(1))


def test_the_budget_is_kept_to_the_byte() -> None:
    flags, first, second = len(SHAPES), 4 * 6 * 3, 3 * 5 * 3
    assert ImageCache(SHAPES, budget=flags + first + second).kept == 2
    assert ImageCache(SHAPES, budget=flags + first + second - 1).kept == 1
    nothing = ImageCache(SHAPES, budget=flags)
    nothing.put(0, pixels(0))
    assert nothing.kept == 0 and nothing.get(0) is None


def test_an_image_of_another_shape_is_not_kept() -> None:
    cache = ImageCache(SHAPES, budget=1000)
    cache.put(0, pixels(1))
    assert cache.get(0) is None


def test_caches_share_their_room(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    room = CacheRoom(3 + 4 * 6 * 3 + 3 * 5 * 3 + 2 * 2)
    assert room.take(SHAPES).kept == 3
    assert room.take(SHAPES).kept == 0
    assert "room for 0 of 3 images" in caplog.text


def test_a_folder_keeps_nothing_after_the_run(tmp_path: Path) -> None:
    cache = ImageCache(SHAPES, budget=1000, folder=tmp_path)
    cache.put(0, pixels(0))
    del cache
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"--cache_dir .*--cache none"):
        ImageCache(SHAPES, budget=1000, folder=tmp_path / "file" / "cache")


def test_the_default_budget_is_less_than_the_memory() -> None:
    assert 0 < default_budget() < 2**50


def _write_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("trainA", "trainB"):
        (root / side).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8))
            image.save(root / side / f"{number}.png")


def _epochs(root: Path, preprocess: str, room: CacheRoom | None, workers: int = 0) -> list[torch.Tensor]:
    transform = TrainingTransform(preprocess, load_size=20, crop_size=16)
    dataset = UnalignedDataset(DatasetSettings(root, "train", transform, cache_room=room))
    loader = TrainingLoader(dataset, batch_size=1, seed=5, num_threads=workers)
    return [batch[side] for epoch in (1, 2) for batch in loader.epoch(epoch) for side in "AB"]


@pytest.mark.parametrize("preprocess", ["resize_and_crop", "crop", "scale_width_and_crop", "none"])
def test_cached_epochs_equal_decoded_ones(tmp_path: Path, preprocess: str) -> None:
    _write_images(tmp_path)
    cached, decoded = _epochs(tmp_path, preprocess, CacheRoom(10**6)), _epochs(tmp_path, preprocess, None)
    assert len(cached) == 12
    assert all(torch.equal(a, b) for a, b in zip(cached, decoded, strict=True))


@pytest.mark.parametrize("side_by_side", [False, True])
def test_pairs_are_cached_as_well(tmp_path: Path, side_by_side: bool) -> None:
    _write_images(tmp_path)
    if side_by_side:
        (tmp_path / "trainA").rename(tmp_path / "train")

    def epochs(room: CacheRoom | None) -> list[torch.Tensor]:
        transform = TrainingTransform("crop", crop_size=12)
        channels = {"input_nc": 3, "output_nc": 1}
        dataset = AlignedDataset(DatasetSettings(tmp_path, "train", transform, channels=channels, cache_room=room))
        loader = TrainingLoader(dataset, batch_size=1, seed=5)
        return [batch[side] for epoch in (1, 2) for batch in loader.epoch(epoch) for side in "AB"]

    cached, decoded = epochs(CacheRoom(10**6)), epochs(None)
    assert len(cached) == 12
    assert all(torch.equal(a, b) for a, b in zip(cached, decoded, strict=True))


def test_workers_fill_one_cache(tmp_path: Path) -> None:
    _write_images(tmp_path)
    decoded, room = _epochs(tmp_path, "crop", None), CacheRoom(10**6)
    cached = _epochs(tmp_path, "crop", room, workers=2)
    assert all(torch.equal(a, b) for a, b in zip(cached, decoded, strict=True))


def test_the_second_epoch_needs_no_files(tmp_path: Path) -> None:
    _write_images(tmp_path)
    settings = DatasetSettings(tmp_path, "train", TrainingTransform("crop", crop_size=16), cache_room=CacheRoom(10**6))
    loader = TrainingLoader(UnalignedDataset(settings), batch_size=1, seed=5)
    list(loader.epoch(0))
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    assert len(list(loader.epoch(1))) == 3
