"""What torchrun says, and how batches are shared out."""

from __future__ import annotations

import pytest
import torch

from data.sampler import EpochBatches
from options import parse_train
from train import check_distributed
from util.engine.device import choose_device
from util.engine.distributed import Ranks, Share
from util.errors import UserError

OF_TORCHRUN = {"RANK": "11", "WORLD_SIZE": "16", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "node0",
               "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2"}  # fmt: skip


def test_the_environment_of_torchrun_is_understood() -> None:
    assert Ranks.from_environment(OF_TORCHRUN) == Ranks(11, 16, 3, 8, restarts=2)


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "8"}, {"RANK": "3"}, {**OF_TORCHRUN, "WORLD_SIZE": "1"}])
def test_without_other_processes_it_is_an_ordinary_training(variables: dict[str, str]) -> None:
    assert Ranks.from_environment(variables).world_size == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"LOCAL_RANK": None}, "LOCAL_RANK is not set"),
        ({"RANK": "first"}, "are first, 16, 3, 8, which are not all numbers"),
        ({"RANK": "16"}, "RANK 16 of WORLD_SIZE 16"),
        ({"LOCAL_WORLD_SIZE": "3"}, "makes no sense"),
    ],
)
def test_an_environment_that_makes_no_sense_is_told(changes: dict[str, str | None], words: str) -> None:
    variables = {name: value for name, value in {**OF_TORCHRUN, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=words):
        Ranks.from_environment(variables)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_all_processes_together_draw_what_one_does_and_take_equally_many_steps(count: int) -> None:
    for samples in range(1, 14):
        whole = EpochBatches(samples, batch_size=2 * count, seed=3)
        parts = [EpochBatches(samples, batch_size=2 * count, seed=3, ranks=Ranks(rank, count)) for rank in range(count)]
        for batches in (whole, *parts):
            batches.set_epoch(2, 1 if samples > 2 * count else 0)
        for number, (one, *several) in enumerate(zip(whole, *parts, strict=True), whole.start_batch):
            shares = [part.share(number) for part in parts]
            together = [key for share, keys in zip(shares, several, strict=True) for key in keys[: share.images]]
            assert together == one
            assert [len(keys) for keys in several] == [max(1, share.images) for share in shares]
            assert sum(share.weight for share in shares) == pytest.approx(1)
            assert shares[0].fewest == min(map(len, several))


def test_a_process_without_images_of_its_own_computes_one_that_does_not_count() -> None:
    batches = EpochBatches(1, batch_size=2, seed=0, ranks=Ranks(0, 2))
    assert batches.share(0) == Share(0, 1, 1) and batches.share(0).weight == 0
    assert [key.position for key in next(iter(batches))] == [0]


@pytest.mark.parametrize(
    ("flags", "restarts", "words"),
    [
        (("--batch_size", "6"), 0, "--batch_size 6 is what all 4 processes .* a multiple of 4, such as 8"),
        (("--batch_size", "4", "--compile", "auto"), 0, "--compile auto"),
        (("--batch_size", "4"), 1, "--continue_train"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(flags: tuple[str, ...], restarts: int, words: str) -> None:
    opt = parse_train(["--dataroot", ".", *flags])
    check_distributed(opt, Ranks())
    with pytest.raises(UserError, match=words):
        check_distributed(opt, Ranks(1, 4, 1, 4, restarts))


def test_each_process_has_the_gpu_of_its_number_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks(11, 16, 3, 8)
    assert choose_device("-1", ranks) == torch.device("cpu")
    for name, value in (("is_available", True), ("device_count", 8)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert choose_device("auto", ranks) == torch.device("cuda", 3)
    with pytest.raises(UserError, match="--gpu_ids 3: torchrun gives each process a GPU of its own"):
        choose_device("3", ranks)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UserError, match="started 8 processes, but this machine has 4 usable GPUs"):
        choose_device("auto", ranks)
