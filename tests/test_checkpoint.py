"""Network files: what is refused, what is explained, and what old projects' files need."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from models.networks import create_generator
from models.networks.describe import describe_state
from util.engine.weights import load_file, load_net, load_nets, net_file, save_atomically, save_nets
from util.errors import UserError


def small_generator(**changes: object) -> nn.Module:
    settings: dict = {"name": "resnet_6blocks", "input_nc": 3, "output_nc": 3, "ngf": 4, **changes}
    return create_generator(**settings)


def test_a_saved_network_comes_back(tmp_path: Path) -> None:
    first, second = small_generator(), small_generator()
    save_nets({"G": first}, tmp_path, "latest")
    load_nets({"G": second}, tmp_path, "latest", describe_state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_file_holds_a_plain_state_dict(tmp_path: Path) -> None:
    network = small_generator()
    save_nets({"G": network}, tmp_path, "5")
    stored = torch.load(tmp_path / "5_net_G.pth", weights_only=True)
    assert list(stored) == list(network.state_dict())


def test_dataparallel_prefix_and_old_instance_norm_statistics_are_dropped(tmp_path: Path) -> None:
    network = small_generator()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    state["module.model.2.running_mean"] = torch.zeros(4)
    state["module.model.2.num_batches_tracked"] = torch.zeros(())
    torch.save(state, tmp_path / "latest_net_G.pth")
    load_net(network, tmp_path / "latest_net_G.pth", describe_state)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"ngf": 8}, "--ngf"),
        ({"name": "resnet_9blocks"}, "--netG"),
        ({"antialias_down": False}, "--no_antialias"),
        ({"antialias_up": False}, "--no_antialias_up"),
        ({"dropout": True}, "--no_dropout"),
        ({"norm": "batch"}, "--normG"),
        ({"name": "unet_128"}, "--netG"),
    ],
)
def test_another_architecture_is_told_by_its_flag(tmp_path: Path, changes: dict, flag: str) -> None:
    save_nets({"G": small_generator(**changes)}, tmp_path, "latest")
    with pytest.raises(UserError, match=f"another architecture: .*{flag} is "):
        load_nets({"G": small_generator()}, tmp_path, "latest", describe_state)


def test_a_missing_epoch_names_those_that_exist(tmp_path: Path) -> None:
    save_nets({"G": small_generator()}, tmp_path, "5")
    save_nets({"G": small_generator()}, tmp_path, "10")
    with pytest.raises(UserError, match=r"--epoch 7: .* 10, 5"):
        load_nets({"G": small_generator()}, tmp_path, "7", describe_state)


def test_networks_of_another_model_are_named(tmp_path: Path) -> None:
    save_nets({"G_A": small_generator()}, tmp_path, "latest")
    with pytest.raises(UserError, match="networks G_A"):
        load_nets({"G": small_generator()}, tmp_path, "latest", describe_state)


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    torch.save({"model.1.weight": _Malicious(trap)}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="more than tensors"):
        load_file(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Malicious(trap)))
    with pytest.raises(UserError):
        load_file(tmp_path / "plain.pth")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latest_net_G.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"latest_net_G\.pth"):
        load_nets({"G": small_generator()}, tmp_path, "latest", describe_state)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "latest_net_G.pth")
    with pytest.raises(UserError, match="not a network's state dict"):
        load_nets({"G": small_generator()}, tmp_path, "latest", describe_state)


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = net_file(tmp_path, "latest", "G")
    save_atomically({"a": torch.zeros(3)}, path)

    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        save_atomically({"a": torch.ones(3)}, path)
    monkeypatch.undo()
    assert torch.equal(load_file(path)["a"], torch.zeros(3))
    assert [file.name for file in tmp_path.iterdir()] == ["latest_net_G.pth"]
