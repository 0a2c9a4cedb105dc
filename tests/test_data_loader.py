"""Training batches: repeatable, resumable, independent of workers, and honest about bad files."""

from __future__ import annotations

import argparse
import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.creation import create_training_loader
from data.datasets import DatasetSettings, TrainingDataset, UnalignedDataset
from data.loader import Batch, TrainingLoader
from data.sampler import EpochBatches, SampleKey, epoch_order
from data.transforms import TrainingTransform
from util.errors import UserError
from util.streams import UNPAIRED, Stream

SIDE = 20


def save_noise(path: Path, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def dataroot(tmp_path: Path) -> Path:
    """Seven images A, one of them in a sub-folder, and three larger images B."""
    for number in range(7):
        save_noise(tmp_path / "trainA" / ("deep" if number == 6 else "") / f"a{number}.png", number)
    for number in range(3):
        save_noise(tmp_path / "trainB" / f"b{number}.png", 100 + number, (30, 25))
    return tmp_path


def options(dataroot: Path, /, **changes: Any) -> argparse.Namespace:
    values: dict[str, Any] = {
        "dataroot": str(dataroot), "phase": "train", "direction": "AtoB", "dataset_mode": "unaligned",
        "serial_batches": False, "num_threads": 0, "batch_size": 2, "load_size": 20, "crop_size": 8,
        "preprocess": "crop", "no_flip": False, "max_dataset_size": None, "input_nc": 3, "output_nc": 3,
        "skip_bad": False, "seed": 5, "cache": "ram", "cache_gb": None, "cache_dir": None,
        "jitter_exposure": 0.0,
    }  # fmt: skip
    return argparse.Namespace(**values | changes)


def loader(dataroot: Path, streams: Sequence[Stream] = UNPAIRED, **changes: Any) -> TrainingLoader:
    return create_training_loader(options(dataroot, **changes), streams)


def assert_equal(ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.keys() == yours.keys()
        for key, value in mine.items():
            assert torch.equal(value, yours[key]) if isinstance(value, torch.Tensor) else value == yours[key]


def file_names(batches: Iterable[Batch], key: str = "A_paths") -> list[str]:
    return [Path(path).name for batch in batches for path in batch[key]]


def test_batches_have_the_documented_shape_and_the_last_is_smaller(dataroot: Path) -> None:
    training = loader(dataroot)
    batches = list(training.epoch(0))
    assert (len(training), training.images_per_epoch, training.batch_size) == (4, 7, 2)
    assert [tuple(batch["A"].shape) for batch in batches] == [(2, 3, 8, 8)] * 3 + [(1, 3, 8, 8)]
    assert all(batch.keys() == {"A", "B", "A_paths", "B_paths"} for batch in batches)
    assert {batch["B"].dtype for batch in batches} == {torch.float32}
    assert sorted(file_names(batches)) == [f"a{number}.png" for number in range(7)]


def test_workers_do_not_change_the_batches_and_stay_for_the_next_epoch(dataroot: Path) -> None:
    alone, helped = loader(dataroot), loader(dataroot, num_threads=2)
    for epoch in (3, 4):
        assert_equal(alone.epoch(epoch), helped.epoch(epoch))


@pytest.mark.parametrize("num_threads", [0, 1])
def test_an_epoch_can_be_left_and_resumed_in_the_middle(dataroot: Path, num_threads: int) -> None:
    whole = list(loader(dataroot).epoch(2))
    training = loader(dataroot, num_threads=num_threads)
    assert_equal([next(training.epoch(2))], whole[:1])
    assert_equal(training.epoch(2, start_batch=1), whole[1:])
    assert list(training.epoch(2, start_batch=len(training))) == []
    assert len(training) == 4


def test_skipped_batches_are_not_decoded(dataroot: Path) -> None:
    training = loader(dataroot)
    first = [Path(path) for batch in list(training.epoch(0))[:2] for path in batch["A_paths"]]
    for path in first:
        path.write_bytes(b"")
    assert len(list(training.epoch(0, start_batch=2))) == 2


def test_global_random_state_is_left_alone(dataroot: Path) -> None:
    before = torch.get_rng_state()
    list(loader(dataroot).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ_and_repeat(dataroot: Path) -> None:
    def run(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([batch["A"] for batch in loader(dataroot, seed=seed).epoch(epoch)])

    assert torch.equal(run(1, 0), run(1, 0))
    assert not torch.equal(run(1, 0), run(1, 1)) and not torch.equal(run(1, 0), run(2, 0))


def test_pairing_is_random_but_repeatable(dataroot: Path) -> None:
    training = loader(dataroot)
    partners = [file_names(training.epoch(epoch), "B_paths") for epoch in range(4)]
    assert partners[0] == file_names(training.epoch(0), "B_paths")
    assert len({tuple(names) for names in partners}) == 4
    assert {name for names in partners for name in names} == {"b0.png", "b1.png", "b2.png"}


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_an_epoch_shows_every_target_equally_often_or_once_more(dataroot: Path, direction: str) -> None:
    training = loader(dataroot, direction=direction)
    for epoch in range(5):
        times = Counter(file_names(training.epoch(epoch), "B_paths"))
        assert sorted(times.values()) == ([2, 2, 3] if direction == "AtoB" else [1] * 7)


def test_serial_batches_walk_both_folders_in_order(dataroot: Path) -> None:
    batches = list(loader(dataroot, serial_batches=True).epoch(9))
    assert file_names(batches) == [f"a{number}.png" for number in range(7)]
    assert file_names(batches, "B_paths") == [f"b{number % 3}.png" for number in range(7)]


def test_b_to_a_swaps_folders_and_channels_belong_to_source_and_target(dataroot: Path) -> None:
    batches = list(loader(dataroot, direction="BtoA", input_nc=1, serial_batches=True).epoch(0))
    assert file_names(batches)[:4] == ["b0.png", "b1.png", "b2.png", "b0.png"]
    assert (batches[0]["A"].shape[1], batches[0]["B"].shape[1]) == (1, 3)


def test_max_dataset_size_takes_the_first_by_name(dataroot: Path) -> None:
    batches = list(loader(dataroot, max_dataset_size=2).epoch(0))
    assert sorted(file_names(batches)) == ["a0.png", "a1.png"]
    assert loader(dataroot, max_dataset_size=float("inf")).images_per_epoch == 7


def test_order_is_a_permutation_of_its_own_for_each_epoch() -> None:
    orders = [tuple(epoch_order(50, seed=0, epoch=epoch)) for epoch in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders) and len(set(orders)) == 5
    assert epoch_order(3, seed=0, epoch=1, shuffle=False) == [0, 1, 2]


def test_chance_is_distinct_for_each_seed_epoch_and_position() -> None:
    keys = [SampleKey(0, *numbers) for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1))]
    assert len({key.generator().random() for key in keys}) == len(keys)
    assert SampleKey(0, 1, 2, 3).generator().random() == SampleKey(7, 1, 2, 3).generator().random()


def test_batches_of_keys_cover_the_epoch_and_skip_its_start() -> None:
    batches = EpochBatches(5, batch_size=2, seed=0, shuffle=False)
    batches.set_epoch(3, start_batch=1)
    positions = [[(key.index, key.epoch, key.position) for key in batch] for batch in batches]
    assert positions == [[(2, 3, 2), (3, 3, 3)], [(4, 3, 4)]]
    assert len(batches) == 2


def test_crop_is_an_exact_cut_of_the_file(dataroot: Path) -> None:
    (batch, *_) = loader(dataroot, no_flip=True).epoch(0)
    crop = np.rint((batch["A"][0].numpy() + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    pixels = np.asarray(Image.open(batch["A_paths"][0]))
    places = [(y, x) for y in range(13) for x in range(13) if np.array_equal(pixels[y : y + 8, x : x + 8], crop)]
    assert len(places) == 1


def test_datasets_pickle(dataroot: Path) -> None:
    dataset = UnalignedDataset(DatasetSettings(dataroot, "train", TrainingTransform("crop", crop_size=8)))
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    key = SampleKey(1, 2, 3, 4)
    assert torch.equal(copy[key]["A"], dataset[key]["A"]) and copy[key]["B_paths"] == dataset[key]["B_paths"]


def test_side_by_side_pairs_get_the_same_crop_and_flip(tmp_path: Path) -> None:
    for number in range(4):
        save_noise(tmp_path / "half.png", number, (16, 12))
        left = np.asarray(Image.open(tmp_path / "half.png"))
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(np.concatenate([left, 255 - left], axis=1)).save(tmp_path / "train" / f"{number}.png")
    batches = list(loader(tmp_path, dataset_mode="aligned", direction="BtoA").epoch(0))
    assert len(batches) == 2
    for batch in batches:
        torch.testing.assert_close(batch["A"], -batch["B"], atol=1e-6, rtol=0)
        assert batch["A_paths"] == batch["B_paths"]


def test_pairs_are_lit_alike(tmp_path: Path) -> None:
    for domain in ("trainA", "trainB"):
        save_noise(tmp_path / domain / "same.png", 7)
    plain, lit = (next(iter(loader(tmp_path, dataset_mode="aligned", jitter_exposure=e).epoch(0))) for e in (0, 1))
    assert torch.equal(lit["A"], lit["B"])
    assert not torch.equal(lit["A"], plain["A"])
    ratio = ((lit["A"] + 1) / (plain["A"] + 1))[(lit["A"] < 1) & (plain["A"] > -1)]
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), atol=1e-4, rtol=0)


def test_pairs_by_name_must_have_one_size(tmp_path: Path) -> None:
    save_noise(tmp_path / "trainA" / "1.png", 0)
    save_noise(tmp_path / "trainB" / "1.png", 0, (SIDE, SIDE + 1))
    with pytest.raises(UserError, match=r"trainA.1\.png' \(20×20\) and '.*trainB.1\.png' \(20×21\) are a pair"):
        loader(tmp_path, dataset_mode="aligned")


def test_side_by_side_image_of_odd_width_is_named(tmp_path: Path) -> None:
    save_noise(tmp_path / "train" / "odd.png", 0, (21, 10))
    with pytest.raises(UserError, match=r"odd\.png' is 21×10 and has no two equal halves"):
        loader(tmp_path, dataset_mode="aligned")


@pytest.mark.parametrize("mode", ["single", "unaligned", "aligned"])
def test_a_model_of_one_stream_trains_in_every_mode(tmp_path: Path, mode: str) -> None:
    save_noise(tmp_path / "trainA" / "x.png", 0)
    (batch,) = loader(tmp_path, (Stream("A"),), dataset_mode=mode, input_nc=1).epoch(0)
    assert batch.keys() == {"A", "A_paths"} and tuple(batch["A"].shape) == (1, 1, 8, 8)


def test_single_takes_a_plain_folder_and_refuses_a_model_of_two_streams(tmp_path: Path) -> None:
    save_noise(tmp_path / "x.png", 0)
    assert len(loader(tmp_path, (Stream("A"),), dataset_mode="single")) == 1
    with pytest.raises(UserError, match=r"--dataset_mode single has one folder.*trains on A and B; use unaligned"):
        loader(tmp_path, dataset_mode="single")


SEMI = (Stream("A"), Stream("B", paired_with="A", channels="output_nc"), Stream("U"), Stream("V"))


@pytest.fixture
def semi(tmp_path: Path) -> Path:
    """Three labeled pairs, five unlabeled images, four of another kind."""
    for number in range(3):
        for side in "AB":
            save_noise(tmp_path / f"train{side}" / f"p{number}.png", 7)
    for folder, count in (("trainU", 5), ("trainV", 4)):
        for number in range(count):
            save_noise(tmp_path / folder / f"{number}.png", number)
    return tmp_path


def test_paired_streams_are_drawn_together_and_the_others_each_in_an_order_of_its_own(semi: Path) -> None:
    training = loader(semi, SEMI)
    orders = {key: [tuple(file_names(training.epoch(epoch), f"{key}_paths")) for epoch in range(6)] for key in "ABUV"}
    assert training.images_per_epoch == 5
    assert orders["A"] == orders["B"]
    assert all(sorted(order) == [f"{n}.png" for n in range(5)] for order in orders["U"])
    assert len(set(orders["U"])) > 1 and [o[:4] for o in orders["U"]] != [o[:4] for o in orders["V"]]
    for batch in training.epoch(0):
        assert torch.equal(batch["A"], batch["B"]), "the pairs hold equal images, so crop and flip were the same"
    assert list(batch)[:4] == ["A", "B", "U", "V"]


def test_two_more_streams_leave_the_first_two_as_they_were(semi: Path) -> None:
    two = [Stream("A"), Stream("U")]
    for few, many in zip(loader(semi, two).epoch(0), loader(semi, [*two, Stream("V")]).epoch(0), strict=True):
        assert torch.equal(few["A"], many["A"]) and torch.equal(few["U"], many["U"])


def test_pairs_that_do_not_match_are_named(semi: Path) -> None:
    save_noise(semi / "trainB" / "more.png", 0)
    with pytest.raises(UserError, match=r"without a partner: 1 in trainB \(first 'more.png'\); fix the names"):
        loader(semi, SEMI)


class Inverting(UnalignedDataset):
    """Generates A as the negative of B plus chance."""

    generates = True

    def generate(self, crops: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"A": 255 - crops["B"], "N": rng.integers(0, 256, crops["B"].shape, dtype=np.uint8), **crops}


GENERATED = (Stream("A", paired_with="B", generated=True), Stream("N", paired_with="B", generated=True), Stream("B"))


def test_a_data_set_may_generate_streams(dataroot: Path) -> None:
    dataset = Inverting(DatasetSettings(dataroot, "train", TrainingTransform("crop", crop_size=8), streams=GENERATED))
    (batch,) = TrainingLoader(dataset, batch_size=3, seed=0).epoch(0)
    assert list(batch) == ["A", "N", "B", "A_paths", "N_paths", "B_paths"]
    torch.testing.assert_close(batch["A"], -batch["B"], atol=1e-6, rtol=0)
    assert batch["A_paths"] == batch["B_paths"]
    (again,) = TrainingLoader(dataset, batch_size=3, seed=0).epoch(0)
    (other,) = TrainingLoader(dataset, batch_size=3, seed=0).epoch(1)
    assert torch.equal(batch["N"], again["N"]) and not torch.equal(batch["N"], other["N"])


def test_a_generated_stream_needs_a_data_set_that_makes_it(dataroot: Path) -> None:
    with pytest.raises(UserError, match="made while loading \\(A, N\\), which this data set does not do"):
        loader(dataroot, GENERATED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataroot": None}, "--dataroot is missing"),
        ({"phase": "val"}, "no folder 'valA' but holds 'trainA', 'trainB'.*for example 'train'"),
        ({"crop_size": 21}, r"a0\.png' has 20×20 pixels, which is too small for --crop_size 21"),
        ({"input_nc": 2}, "--input_nc 2: images are read with 1 channel"),
        ({"dataset_mode": "unalined"}, "--dataset_mode unalined: no such dataset .*'unaligned'"),
    ],
)
def test_mistakes_show_before_training(dataroot: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_training_loader(options(dataroot, **changes))


def test_mixed_sizes_in_a_batch_show_before_training(dataroot: Path) -> None:
    save_noise(dataroot / "trainA" / "wide.png", 0, (40, 20))
    with pytest.raises(UserError, match=r"a0\.png' is 20×20 and '.*wide\.png' 40×20; use --batch_size 1"):
        loader(dataroot, preprocess="none")
    assert len(loader(dataroot, preprocess="none", batch_size=1)) == 8


def truncate(path: Path) -> None:
    """Leave the header, so that only decoding fails."""
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.parametrize("num_threads", [0, 1])
def test_truncated_file_in_a_worker_is_a_clean_user_error(dataroot: Path, num_threads: int) -> None:
    truncate(dataroot / "trainA" / "a3.png")
    with pytest.raises(UserError, match=r"^'.*a3\.png' cannot be read as an image .*--skip_bad to leave it out\.$"):
        list(loader(dataroot, num_threads=num_threads).epoch(0))


@pytest.mark.parametrize(("bad", "left"), [((3,), (0, 1, 2, 4, 4, 5, 6)), ((6, 0), (1, 1, 1, 2, 3, 4, 5))])
def test_skip_bad_takes_the_next_in_cyclic_order_and_warns_once(
    dataroot: Path, caplog: pytest.LogCaptureFixture, bad: tuple[int, ...], left: tuple[int, ...]
) -> None:
    for number in bad:
        truncate(next(dataroot.rglob(f"a{number}.png")))
    training = loader(dataroot, num_threads=2, skip_bad=True)
    with caplog.at_level(logging.WARNING):
        names = [file_names(training.epoch(epoch)) for epoch in range(2)]
    assert [sorted(epoch) for epoch in names] == [[f"a{n}.png" for n in left]] * 2
    messages = [record.getMessage() for record in caplog.records]
    assert [sum(f"a{number}.png" in message for message in messages) for number in bad] == [1] * len(bad)
    assert names[0] == file_names(loader(dataroot, skip_bad=True).epoch(0))


class Growing(TrainingDataset):
    """A plugin's dataset whose images have different sizes."""

    def __init__(self, **_: Any) -> None:
        pass

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return {"A": torch.zeros(3, 4, 4 + key.index)}


def test_collating_different_sizes_is_a_user_error() -> None:
    with pytest.raises(UserError, match="--batch_size 2 needs images of one size but found 4×4, 5×4"):
        list(TrainingLoader(Growing(), batch_size=2, seed=0).epoch(0))


def test_start_beyond_the_epoch_is_our_own_bug(dataroot: Path) -> None:
    with pytest.raises(ValueError, match="start_batch is 5, but an epoch has 4 batches"):
        loader(dataroot).epoch(0, start_batch=5)
