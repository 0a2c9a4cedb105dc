"""When torch.compile is used, and that a machine on which it fails trains as if it had not been tried."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import at
from tests.test_step import BATCH, TwoPhases
from tests.test_step_equality import batches, curve, gradients, make_stepper, relative, weights
from util.engine import compile as compiling
from util.engine.compile import Compilation, cache_folder, find_obstacle, pays
from util.engine.step import Stepper, StepSettings
from util.errors import UserError
from util.kernels import layers

CPU = torch.device("cpu")


@pytest.fixture
def fake_compiler(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torch.compile that only notes what it was asked for."""
    asked: list[str] = []

    def compile_(function: Any, **_: Any) -> Any:
        owner = [type(function.__self__).__name__] if hasattr(function, "__self__") else []
        asked.append(".".join([*owner, function.__name__]))
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(compiling, "find_obstacle", lambda device: None)
    return asked


@pytest.mark.parametrize(
    ("steps", "seconds", "device", "worthwhile"),
    [
        (100, 0.1, "cuda", False),
        (560_000, 0.05, "cuda", True),
        (500, 20.0, "cuda", True),
        (100, 20.0, "cuda", False),
        (100, 4.0, "cpu", False),
        (1000, 4.0, "cpu", True),
    ],
)
def test_compiling_pays_for_many_or_slow_steps(steps: int, seconds: float, device: str, worthwhile: bool) -> None:
    assert pays(steps, seconds, device) is worthwhile


def test_auto_decides_once_after_a_few_steps_and_says_how(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    compilation = Compilation("auto", torch.device("cuda"))
    decisions: list[bool] = []
    for seconds in [30.0, 30.0, *[1.0] * 20]:  # the first ones warm up
        decisions.append(compilation.decide(10_000 - len(decisions)))
        compilation.add_step(seconds)
    assert decisions.index(True) == 7
    assert decisions.count(True) == 1
    assert "compiling (9993 steps of 1.00 s are left)" in caplog.text


def test_auto_leaves_a_short_run_alone(caplog: pytest.LogCaptureFixture, fake_compiler: list[str]) -> None:
    caplog.set_level(logging.INFO)
    settings = StepSettings(compile="auto")
    stepper = Stepper(
        TwoPhases(), device=CPU, precision="fp32", learning_rate=0.1, betas=(0.5, 0.999), seed=1, settings=settings
    )
    for number in range(9):
        stepper.step(BATCH, at(number, total_steps=12))
    assert fake_compiler == []
    assert "not compiling, which would cost more than it saves (5 steps of" in caplog.text


def test_what_all_calls_go_through_is_compiled_and_the_state_dicts_stay(fake_compiler: list[str]) -> None:
    plain, compiled = make_stepper(model="cut"), make_stepper(model="cut", compile="networks")
    for stepper in (plain, compiled):
        stepper.step(batches(1)[0], at(0))
    assert fake_compiler == ["ResnetGenerator.run", "PatchDiscriminator.run"]
    for name, network in plain.model.nets.items():
        assert network.state_dict().keys() == compiled.model.nets[name].state_dict().keys()
    assert "run" in vars(compiled.model.nets["G"])
    with compiled.ema_scope():
        assert "run" not in vars(compiled.model.nets["G"])
    assert "run" in vars(compiled.model.nets["G"])


def break_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler whose code fails in the second phase, when the first has updated its networks already."""
    calls = 0

    def compile_(function: Any, **_: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 4:
                raise AssertionError("expected size 128==128\nand much more")
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(compiling, "find_obstacle", lambda device: None)
    monkeypatch.setattr(compiling, "pays", lambda steps, seconds, device: True)
    monkeypatch.setattr(layers, "_FEWEST_FOR_WINOGRAD", 1)
    monkeypatch.setattr(compiling, "_MEASURED_STEPS", 1)
    monkeypatch.setattr(compiling, "_WARM_UP_STEPS", 1)


def test_where_compiled_code_fails_auto_goes_on_as_if_it_had_not_been_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, automatic = make_stepper(), make_stepper(compile="auto", ema=0.9)
    expected = curve(plain, batches(4))
    break_backward(monkeypatch)
    assert curve(automatic, batches(4)) == expected
    assert torch.equal(weights(plain.model.nets), weights(automatic.model.nets))
    assert "going on without, because it does not work here (expected size 128==128)" in caplog.text


def test_kernels_are_for_cpus() -> None:
    with pytest.raises(UserError, match="use --compile networks on a GPU"):
        Compilation("kernels", torch.device("cuda")).apply({})


def test_where_compiled_code_fails_an_explicit_request_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    break_backward(monkeypatch)
    with pytest.raises(UserError, match="--compile networks: does not work here"):
        make_stepper(compile="networks").step(batches(1)[0], at(0))


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(function: Any) -> Any:
        def run(*args: Any) -> Any:
            raise RuntimeError("No working C++ compiler found\nlong story")

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    obstacle = find_obstacle(CPU)
    assert obstacle is not None and "No working C++ compiler found" in obstacle and "g++" in obstacle
    with pytest.raises(UserError, match=r"--compile networks: .* or use --compile off"):
        Compilation("networks", CPU).apply({"G": nn.Conv2d(1, 1, 1)})
    Compilation("auto", CPU).apply({"G": nn.Conv2d(1, 1, 1)})  # only says so


def test_the_cache_stays_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    assert cache_folder().name == "elsewhere"


@pytest.mark.heavy
def test_compiled_steps_agree_with_plain_ones() -> None:
    if obstacle := find_obstacle(CPU):
        pytest.skip(obstacle)
    plain, compiled = (make_stepper("--pool_size", "0", compile=mode) for mode in ("off", "networks"))
    first, *more = batches(3)
    for stepper in (plain, compiled):
        stepper.step(first, at(0))
    assert relative(gradients(compiled), gradients(plain)) < 1e-4
    expected, found = curve(plain, more), curve(compiled, more)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-4), name
