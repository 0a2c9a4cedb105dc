"""The images of a test: all of them, whole, paired where the names say so."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.creation import create_test_dataset
from data.datasets import TestDataset
from util.errors import UserError


def save(path: Path, value: int, size: tuple[int, int] = (17, 15)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def dataset(dataroot: Path, **changes: Any) -> TestDataset:
    values: dict[str, Any] = {
        "dataroot": str(dataroot), "phase": "test", "direction": "AtoB", "dataset_mode": "unaligned",
        "load_size": 286, "crop_size": 256, "preprocess": "none", "input_nc": 3, "output_nc": 3,
        "skip_bad": False, "num_test": None, "eval_pairs": "auto",
    }  # fmt: skip
    return create_test_dataset(argparse.Namespace(**values | changes))


def test_paired_items_carry_both_images_whole(tmp_path: Path) -> None:
    save(tmp_path / "testA" / "s" / "1.png", 0)
    save(tmp_path / "testB" / "s" / "1.bmp", 255)
    found = dataset(tmp_path, output_nc=1)
    (item,) = found
    assert (len(found), found.paired, item.name) == (1, True, "s/1")
    assert (item.source_path, item.target_path) == (
        tmp_path / "testA" / "s" / "1.png",
        tmp_path / "testB" / "s" / "1.bmp",
    )
    assert item.target is not None
    assert torch.equal(item.source, torch.full((1, 3, 15, 17), -1.0)) and torch.equal(
        item.target, torch.ones(1, 1, 15, 17)
    )


def test_source_alone_needs_no_target_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.jpg", "c.png"):
        save(tmp_path / "testA" / name, 9)
    found = dataset(tmp_path)
    assert [item.name for item in found] == ["a", "b", "c.jpg", "c.png"]
    assert not found.paired and all(item.target is None and item.target_path is None for item in found)


def test_direction_swaps_source_and_target(tmp_path: Path) -> None:
    save(tmp_path / "testA" / "1.png", 0)
    save(tmp_path / "testB" / "1.png", 255)
    (item,) = dataset(tmp_path, direction="BtoA")
    assert item.source.max() == 1 and item.target is not None and item.target.max() == -1


def test_num_test_limits_and_the_total_is_kept(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / "testA" / f"{number}.png", number)
    found = dataset(tmp_path, num_test=2)
    assert ([item.name for item in found], found.available) == (["0", "1"], 5)
    assert len(dataset(tmp_path, num_test=float("inf"))) == 5


def test_pair_of_different_size_names_both(tmp_path: Path) -> None:
    save(tmp_path / "testA" / "1.png", 0)
    save(tmp_path / "testB" / "1.png", 0, (18, 15))
    with pytest.raises(UserError, match=r"testA.1\.png' \(17×15\) and '.*testB.1\.png' \(18×15\).*--eval_pairs no"):
        dataset(tmp_path)
    assert not dataset(tmp_path, eval_pairs="no").paired


def test_a_pair_too_small_to_compare_shows_at_the_start(tmp_path: Path) -> None:
    for domain in ("testA", "testB"):
        save(tmp_path / domain / "1.png", 0, (11, 11))
        save(tmp_path / domain / "2.png", 0, (40, 10))
    with pytest.raises(UserError, match=r"testA.2\.png' has 40×10 pixels, .* 11 a side; .* pass --eval_pairs no"):
        dataset(tmp_path)
    assert len(dataset(tmp_path, eval_pairs="no")) == 2
    assert dataset(tmp_path, num_test=1).paired


def test_a_pair_that_resizing_makes_too_small_shows_at_the_start(tmp_path: Path) -> None:
    for domain in ("testA", "testB"):
        save(tmp_path / domain / "1.png", 0, (40, 20))
    with pytest.raises(UserError, match="40×20 pixels, 16×8 after --preprocess scale_width"):
        dataset(tmp_path, preprocess="scale_width", load_size=16)


def truncated_set(tmp_path: Path) -> Path:
    """One good pair and one whose target is cut short."""
    for domain in "AB":
        for name in ("1.png", "2.png"):
            path = tmp_path / f"test{domain}" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    broken = tmp_path / "testB" / "1.png"
    broken.write_bytes(broken.read_bytes()[:600])
    return broken


def test_broken_image_shows_at_the_start(tmp_path: Path) -> None:
    truncated_set(tmp_path)
    with pytest.raises(UserError, match=r"testB.1\.png' cannot be read as an image"):
        dataset(tmp_path)


def test_skip_bad_leaves_out_the_pair_and_lists_it(tmp_path: Path) -> None:
    broken = truncated_set(tmp_path)
    found = dataset(tmp_path, skip_bad=True)
    assert [item.name for item in found] == ["2"] and found.paired
    assert [error.path for error in found.skipped] == [broken]


def test_resizing_happens_only_when_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "testA" / "1.png", 0)
    (item,) = dataset(tmp_path, preprocess="resize_and_crop", load_size=6, crop_size=4)
    assert tuple(item.source.shape) == (1, 3, 6, 6)


def test_aligned_halves_are_source_and_ground_truth(tmp_path: Path) -> None:
    path = tmp_path / "test" / "1.png"
    path.parent.mkdir()
    Image.fromarray(np.tile(np.repeat(np.array([[0, 255]], dtype=np.uint8), 12, axis=1), (11, 1))).save(path)
    (item,) = dataset(tmp_path, dataset_mode="aligned")
    assert item.target is not None and (item.source.max(), item.target.min()) == (-1, 1)
    assert tuple(item.source.shape) == tuple(item.target.shape) == (1, 3, 11, 12)


def test_single_reads_a_plain_folder_and_has_no_ground_truth(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 0)
    assert [item.name for item in dataset(tmp_path, dataset_mode="single")] == ["1"]
    with pytest.raises(UserError, match="--eval_pairs yes: --dataset_mode single has no ground truth"):
        dataset(tmp_path, dataset_mode="single", eval_pairs="yes")
