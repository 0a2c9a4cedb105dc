"""Files of weights: what is refused, what is explained, and what other projects' files need."""

from __future__ import annotations

import errno
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.networks import create_generator, describe_state
from options.runs import options_of_weights
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


Weights = dict[str, torch.Tensor]


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda state: {prefix + key: value for key, value in state.items()}


def random(state: Weights) -> Weights:
    return {key: torch.rand_like(value) for key, value in state.items()}


def inside(state: Weights) -> Weights:
    """As where a part of a model is compiled."""
    return {key.replace(".conv_block.", "._orig_mod.conv_block."): value for key, value in state.items()}


FOREIGN: dict[str, Callable[[Weights], object]] = {
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "both": prefixed("module._orig_mod."),
    "both, the other way": prefixed("_orig_mod.module."),
    "a compiled part": inside,
    "in a larger model": prefixed("generator."),
    "deep in a larger model": prefixed("model.netG."),
    "last first": lambda state: dict(reversed(state.items())),
    "half precision": lambda state: {key: value.half() for key, value in state.items()},
    "bfloat16": lambda state: {key: value.bfloat16() for key, value in state.items()},
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "params": lambda state: {"params": state},
    "params_ema beside params": lambda state: {"params": random(state), "params_ema": state},
    "generator beside discriminator": lambda state: {"generator": state, "discriminator": {"a": torch.ones(3)}},
    "wrapped in an entry": lambda state: {"iter": 5, "model": {"state_dict": prefixed("module.")(state)}},
    "a module of Lightning": lambda state: {
        "state_dict": {**prefixed("netG.")(state), **prefixed("netD.")({"0.weight": torch.ones(2)})}
    },
}


@pytest.mark.parametrize("how", FOREIGN)
def test_foreign_files_are_loaded(tmp_path: Path, how: str) -> None:
    first, second = small_generator(), small_generator()
    for value in first.parameters():  # which half precision can hold
        value.data = value.data.bfloat16().half().float()
    torch.save(FOREIGN[how](first.state_dict()), tmp_path / "net.pth")
    load_net(second, tmp_path / "net.pth", describe_state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    told = options_of_weights(tmp_path / "net.pth")
    assert told is not None and told.saved["netG"] == "resnet_6blocks" and str(told.saved["ngf"]) == "4"


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    """Its keys are sorted as text, so that layer 10 comes before layer 2."""
    from safetensors.torch import save_file

    first, second = small_generator(output_nc=1), small_generator(output_nc=1)
    save_file(first.state_dict(), tmp_path / "net.safetensors")
    load_net(second, tmp_path / "net.safetensors", describe_state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    told = options_of_weights(tmp_path / "net.safetensors")
    assert told is not None and str(told.saved["output_nc"]) == "1"
    (tmp_path / "net.safetensors").write_bytes(b"no such file")
    with pytest.raises(UserError, match=r"net\.safetensors is damaged"):
        load_file(tmp_path / "net.safetensors")


def test_counters_of_batch_norm_may_lack(tmp_path: Path) -> None:
    first, second = small_generator(norm="batch"), small_generator(norm="batch")
    state = {key: value for key, value in first.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert len(state) < len(first.state_dict())
    torch.save(state, tmp_path / "net.pth")
    load_net(second, tmp_path / "net.pth", describe_state)
    assert all(torch.equal(second.state_dict()[key], value) for key, value in state.items())


def test_of_several_networks_the_one_that_is_asked_for_counts(tmp_path: Path) -> None:
    nets = {name: small_generator() for name in ("G_A", "G_B")}
    for file, content in (
        ("entries.pth", {name: network.state_dict() for name, network in nets.items()}),
        (
            "module.pth",
            {"state_dict": {f"net{n}.{key}": v for n, net in nets.items() for key, v in net.state_dict().items()}},
        ),
    ):
        torch.save(content, tmp_path / file)
        loaded = small_generator()
        load_net(loaded, tmp_path / file, describe_state, "G_B")
        assert torch.equal(next(loaded.parameters()), next(nets["G_B"].parameters()))
        with pytest.raises(UserError, match=r"several networks that fit .*G_A.*G_B") as refused:
            load_net(loaded, tmp_path / file, describe_state)
        line = str(refused.value).partition("python -c ")[2]
        subprocess.run([sys.executable, "-c", *shlex.split(line)], cwd=tmp_path, check=True)  # the line that it says
        load_net(loaded, tmp_path / "net.pth", describe_state)
        assert torch.equal(next(loaded.parameters()), next(nets["G_A"].parameters()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"DownBlock.7.conv_block.1.weight": torch.zeros(4, 4, 3, 3)}, "known here .*DownBlock.7.conv_block.1.weight"),
        ({"encoder.0.weight": torch.zeros(3)}, r"known here .*encoder\.0\.weight"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "holds entries 'epoch', 'args'"),
        ({"nets": {}, "position": {}}, "training state; give the run's folder"),
        ({}, "not a network's state dict"),
    ],
)
def test_what_was_found_is_told(tmp_path: Path, content: object, says: str) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(UserError, match=says) as refused:
        load_net(small_generator(), tmp_path / "net.pth", describe_state)
    assert "\n" not in str(refused.value)


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


def test_a_drive_that_stumbles_is_asked_again_and_not_called_a_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_nets({"G": small_generator()}, tmp_path, "latest")
    load, left = torch.load, 1

    def stumble(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.EIO, "Input/output error")
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", stumble)
    assert load_file(tmp_path / "latest_net_G.pth")
    left = 99
    with pytest.raises(UserError, match=r"latest_net_G\.pth cannot be read \(Input/output error\)"):
        load_file(tmp_path / "latest_net_G.pth")


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
