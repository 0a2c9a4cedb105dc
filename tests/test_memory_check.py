"""Sizes that no memory holds are refused before anything is allocated or written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

import test as test_program
import train as train_program
from models import create_model
from options import parse_train
from options.memory_check import check_images, limited_weights
from tests.conftest import small_model_flags
from tests.test_user_errors import sentence
from util.errors import UserError
from util.memory import whole_memory

CPU = torch.device("cpu")


def with_memory(monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    monkeypatch.setattr("options.memory_check.whole_memory", lambda device: size)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--ngf", "1000000"), "--ngf 1000000"),
        (("--ngf", "2147483647"), "--ngf 2147483647"),
        (("--ndf", "1000000"), "--ndf 1000000"),
        (("--netF_nc", "2000000"), "--netF_nc 2000000"),
        (("--load_size", "65535", "--crop_size", "65535", "--ngf", "64"), "--crop_size 65535"),
        (("--load_size", "65535"), "--load_size 65535"),
    ],
)
def test_a_size_beyond_the_memory_is_told_at_the_start(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...], named: str,
) -> None:  # fmt: skip
    with_memory(monkeypatch, 8 * 1024**3)
    where = ["--dataroot", str(dataset), "--checkpoints_dir", str(tmp_path / "checkpoints")]
    assert train_program.main([*where, *small_model_flags("cut"), *flags]) == 2
    message = sentence(capsys)
    assert named in message and " memory" in message and "but this computer has 8 GiB; choose less" in message
    assert not (tmp_path / "checkpoints").exists()


def test_testing_is_checked_too(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert test_program.main(["--dataroot", str(dataset), "--model", "cut", "--gpu_ids", "-1", "--ngf", "1000000"]) == 2
    assert "--ngf 1000000" in sentence(capsys)


@pytest.mark.parametrize("model", ["cut", "cycle_gan"])
def test_what_is_refused_is_what_the_networks_take(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """The bound is that of the weights themselves: with a byte less than they take, and not before."""
    opt = parse_train(["--dataroot", "none", *small_model_flags(model), "--ngf", "8"])
    nets = create_model(opt, training=True).nets
    taken = sum(weight.nbytes for network in nets.values() for weight in network.parameters())
    for memory in (taken, None):
        with_memory(monkeypatch, memory)
        with limited_weights(opt, CPU):
            create_model(opt, training=True)
    with_memory(monkeypatch, taken - 1)
    with pytest.raises(UserError, match="--ngf 8"), limited_weights(opt, CPU):
        create_model(opt, training=True)


def test_a_model_is_the_same_with_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = parse_train(["--dataroot", "none", *small_model_flags("cut")])
    states = []
    for check in (contextlib.nullcontext(), limited_weights(opt, CPU)):
        torch.manual_seed(0)
        with check:
            states.append(create_model(opt, training=True).nets["G"].state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_batch_is_no_larger_than_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = parse_train(["--dataroot", "none", *small_model_flags("cut"), "--batch_size", "1000000000"])
    with_memory(monkeypatch, 1024**3)
    check_images(opt, CPU, images_per_epoch=4)
    with pytest.raises(UserError, match="--batch_size 1000000000"):
        check_images(opt, CPU, images_per_epoch=10**7)
    check_images(opt, CPU, images_per_epoch=10**7, processes=10**7)


def test_memory_that_runs_out_while_networks_are_made_is_explained(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("train.create_model", no_memory)
    assert train_program.main(["--dataroot", str(dataset), *small_model_flags("cut")]) == 2
    assert "the networks do not fit" in sentence(capsys)


def test_a_computer_has_some_memory() -> None:
    memory = whole_memory(CPU)
    assert memory is None or 2**27 < memory < 2**50
