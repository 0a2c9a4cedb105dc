"""Recorded steps, as far as a machine without a GPU can tell: who may record, and what is replayed on which memory.

Recording itself needs a GPU and is not exercised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from options import parse_train
from train import options_decide
from util.engine.cuda_graphs import WARM_UP_STEPS, Recorder, StaticBatch, choose_graphs, graph_unsafe_reason
from util.errors import UserError

GPU = torch.device("cuda", 0)
FIT: dict[str, Any] = {"precision": "bf16", "accumulate": 1, "skip_non_finite": False, "host_decides": None}


def test_a_step_that_the_gpu_takes_alone_can_be_recorded() -> None:
    assert graph_unsafe_reason(GPU, **FIT) is None
    assert choose_graphs("on", None) and choose_graphs("auto", None)
    assert not choose_graphs("off", None)


@pytest.mark.parametrize(
    ("device", "change", "named"),
    [
        ("cpu", {}, "NVIDIA"),
        ("cuda", {"precision": "fp16"}, "fp16"),
        ("cuda", {"accumulate": 2}, "--accumulate"),
        ("cuda", {"skip_non_finite": True}, "--on_nan skip"),
        ("cuda", {"host_decides": "--pool_size 50"}, "--pool_size"),
    ],
)
def test_what_prevents_recording_is_named(device: str, change: dict[str, Any], named: str) -> None:
    reason = graph_unsafe_reason(torch.device(device), **{**FIT, **change})
    assert reason is not None and named in reason
    assert not choose_graphs("auto", reason)
    with pytest.raises(UserError, match=f"--cuda_graphs on: .*{named}"):
        choose_graphs("on", reason)


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--model", "cclgan"], None), (["--model", "cycle_gan"], "--pool_size 50"),
     (["--model", "cut", "--CUT_mode", "fastcut"], "--flip_equivariance")],
)  # fmt: skip
def test_models_whose_steps_differ_in_kind_are_known(flags: list[str], named: str | None) -> None:
    reason = options_decide(parse_train(["--dataroot", ".", *flags]))
    assert (reason is None) if named is None else (reason is not None and named in reason)


def test_a_static_batch_keeps_its_addresses_and_knows_what_fits() -> None:
    static = StaticBatch({"A": torch.zeros(2, 3), "A_paths": ["x", "y"]})
    address = static.tensors["A"].data_ptr()
    static.fill({"A": torch.ones(2, 3)})
    assert static.tensors["A"].data_ptr() == address
    assert static.tensors["A"].sum() == 6
    assert static.fits({"A": torch.ones(2, 3), "A_paths": ["z"]})
    assert not static.fits({"A": torch.ones(1, 3)})
    assert not static.fits({"A": torch.ones(2, 3, dtype=torch.uint8)})
    assert not static.fits({"A": torch.ones(2, 3), "B": torch.ones(2, 3)})


class Tape:
    """A graph without a GPU: replaying does again what was recorded."""

    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder

    def replay(self) -> None:
        self.recorder._result.copy_(self.recorder._static.tensors["A"] * 2)


def test_batches_of_one_form_are_replayed_and_others_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def double(batch: Mapping[str, Any]) -> Tensor:
        computed.append(len(batch["A"]))
        return batch["A"] * 2

    recorder: Any = Recorder(double)

    def record(self: Any) -> None:
        self._graph, self._result = Tape(self), torch.zeros(2)

    monkeypatch.setattr(Recorder, "_on_a_side_stream", lambda self, batch: self._function(batch))
    monkeypatch.setattr(Recorder, "_record", record)
    for number in range(WARM_UP_STEPS + 2):
        assert recorder({"A": torch.full((2,), float(number))}).tolist() == [2.0 * number] * 2
    assert computed == [2] * WARM_UP_STEPS
    assert recorder({"A": torch.ones(1)}).tolist() == [2.0]  # the last batch of an epoch
    assert recorder({"A": torch.ones(2)}).tolist() == [2.0, 2.0]
    assert computed == [2] * WARM_UP_STEPS + [1]
