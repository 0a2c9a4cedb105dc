"""scripts/benchmark.py: taking turns, what is reported, and what users may get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts._benchmark import report
from scripts._benchmark.driver import OriginalWorker, Samples, Worker, run_in_turn
from scripts._benchmark.report import InferenceRow, LoadingRow, Report, StepRow, Timing, load_warning, table
from scripts.benchmark import arguments, flags_of_mode, main, original_flags, our_flags, parse_size, step_row
from util.errors import UserError

THEIR_OPTIONS = """
import argparse, sys
class TrainOptions:
    def parse(self):
        parser = argparse.ArgumentParser()
        for name in ("dataroot", "name", "checkpoints_dir", "model", "batch_size", "crop_size", "load_size", "ngf",
                     "ndf", "display_id", "gpu_ids"):
            parser.add_argument("--" + name)
        parser.add_argument("--no_html", action="store_true")
        opt = parser.parse_args()
        opt.gpu_ids = []
        return opt
"""
THEIR_MODELS = """
class Theirs:
    def data_dependent_initialize(self, data): assert data["A"].shape == (1, 3, 32, 32), data["A"].shape
    def setup(self, opt): print("what they print must not be taken for an answer")
    def set_input(self, data): self.data = data
    def optimize_parameters(self): self.data["A"].mean()
def create_model(opt): return Theirs()
"""


class FakeWorker(Worker):
    """Answers without a process; notes what it was asked in ``log``."""

    def __init__(self, name: str, log: list[str], *, has_ceiling: bool = True) -> None:
        self.name, self.log, self.has_ceiling = name, log, has_ceiling
        self.steps = 0

    def ask(self, do: str, **arguments: Any) -> Any:
        self.log.append(f"{self.name} {do}")
        self.steps += do == "step"
        return {"step": float(self.steps), "peak": 100 * self.steps, "ceiling": {"flops": 8.0, "bytes": 2.0}}[do]


def test_workers_take_turns_and_every_second_round_goes_the_other_way() -> None:
    log: list[str] = []
    a, b = FakeWorker("a", log), FakeWorker("b", log, has_ceiling=False)
    samples = run_in_turn([a, b], rounds=3, warm_up=2)
    assert [entry for entry in log if "ceiling" not in entry] == [
        "a step", "a step", "a peak", "b step", "b step", "b peak",
        "a step", "b step", "b step", "a step", "a step", "b step",
    ]  # fmt: skip
    assert samples["a"].seconds == [3, 4, 5]
    assert samples["a"].peak == 200
    assert len(samples["a"].ceilings) == 3
    assert samples["b"].ceilings == []


def test_a_row_relates_a_step_to_the_ceiling_and_to_the_original() -> None:
    samples = Samples([2.0, 4.0, 2.5], [{"flops": 8.0, "bytes": 1.0}, {"flops": 16.0, "bytes": 1.0}] * 2, peak=7)
    row = step_row("cut", "fp32", 3, samples, {"flops": 15, "bytes": 5}, original=5.0)
    assert row.timing.median == 2.5
    assert row.share == pytest.approx(15 / 2.5 / 12)
    assert row.times_original == 2.0
    theirs = step_row("cut", "original", 3, samples, None, original=5.0)
    assert (theirs.share, theirs.times_original) == (None, None)


def test_the_report_has_a_table_for_everything_measured_and_every_sample_in_json() -> None:
    found = Report({"rounds": 2})
    assert found.markdown() == ""
    found.steps.append(StepRow("cut", "bf16", Timing((1.0, 3.0)), 1, 2_000_000_000, 10**12, 10**10, 10**12, 1.0, 3.14))
    found.inference.append(InferenceRow("cut", "bf16", "256x256", Timing((0.5,)), 10**9))
    found.loading.append(LoadingRow("ram", 1, 30, 2.0))
    steps, inference, loading = found.markdown().split("\n\n")
    assert "2 (1–3)" in steps and "3.14×" in steps and "50%" in steps
    assert "256x256" in inference
    assert "15" in loading.splitlines()[-1]
    stored = json.loads(json.dumps(found.as_json()))
    assert stored["settings"] == {"rounds": 2}
    assert stored["steps"][0]["timing"]["seconds"] == [1, 3]
    assert stored["steps"][0]["median"] == 2
    assert stored["loading"] == [{"cache": "ram", "epoch": 1, "images": 30, "seconds": 2.0}]


def test_columns_line_up() -> None:
    lines = table(["a", "b", "c"], [["x", "long cell", "1"], ["y", "z", "12345"]]).splitlines()
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(("ticks", "processors", "told"), [(4, 2, False), (75, 2, True), (75, 64, False)])
def test_a_busy_machine_is_told(
    ticks: int, processors: int, told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``ticks`` of 1/100 s that other programs work in the half second of the look."""
    statistics = tmp_path / "stat"
    statistics.write_text("cpu  100 20 30 5000 0 0\ncpu0 ...\n", encoding="ascii")
    monkeypatch.setattr(report, "_STATISTICS", statistics)
    monkeypatch.setattr(report.os, "cpu_count", lambda: processors)
    monkeypatch.setattr(report.os, "sysconf", lambda name: 100)

    def meanwhile(seconds: float) -> None:
        assert seconds == 0.5
        statistics.write_text(f"cpu  {100 + ticks} 20 30 5050 0 0\ncpu0 ...\n", encoding="ascii")

    assert (f"1.5 of {processors} processors" in (load_warning(meanwhile) or "")) == told


def test_without_statistics_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "_STATISTICS", tmp_path / "nothing")
    assert load_warning(lambda seconds: None) is None


def test_modes_are_flags_of_train() -> None:
    assert flags_of_mode("bf16+channels_last+compile=kernels") == [
        "--precision=bf16", "--channels_last", "--compile=kernels",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"--modes bf61: .*did you mean 'bf16'"):
        flags_of_mode("bf61")


@pytest.mark.parametrize("size", ["256", "0x5", "12x-3", "ax4"])
def test_sizes_are_width_and_height(size: str) -> None:
    assert parse_size("2048x1024") == (2048, 1024)
    with pytest.raises(UserError, match=f"--sizes {size}: give WIDTHxHEIGHT"):
        parse_size(size)


def test_other_repositories_train_the_same_networks() -> None:
    args = arguments(["--crop_size", "128", "--ngf", "32"])
    cut = original_flags("against", "cut", args, "somewhere", "cpu")
    cycle_gan = original_flags("against", "cycle_gan", args, "somewhere", "cpu")
    assert cut is not None and cycle_gan is not None
    assert "--no_antialias" not in cut and {"--no_antialias", "--no_antialias_up"} <= set(cycle_gan)
    assert cut[cut.index("--ndf") + 1] == "32"
    assert original_flags("against", "cclgan", args, "somewhere", "cpu") is None
    assert original_flags("against_cyclegan", "cut", args, "somewhere", "cpu") is None


def test_flags_behind_two_dashes_go_to_our_models() -> None:
    flags = our_flags(arguments(["--ngf", "8", "--", "--gan_mode", "hinge"]), "cut", "fp32")
    assert flags[-3:] == ["--gan_mode", "hinge", "--precision=fp32"]
    assert {"--ngf=8", "--ndf=8", "--load_size=256"} <= set(flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rounds", "0"], "--rounds and --repeat must be at least 1"),
        (["--models", "", "--sizes", "big"], "--sizes big"),
        (["--modes", "fp23"], "--modes fp23"),
        (["--gpu_ids", "77"], "--gpu_ids 77"),
    ],
)
def test_mistakes_are_one_sentence(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == 2
    assert said in capsys.readouterr().err


def checkout(folder: Path, models: str = THEIR_MODELS) -> Path:
    """Somebody else's repository."""
    for name, text in {"options/train_options.py": THEIR_OPTIONS, "models/__init__.py": models}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).parent.joinpath("__init__.py").touch()
    return folder


SMALL = ["--models", "cut", "--modes", "fp32", "--crop_size", "32", "--ngf", "4", "--rounds", "1", "--gpu_ids", "-1"]


def test_ours_and_theirs_are_timed_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, found = checkout(tmp_path / "theirs"), tmp_path / "found.json"
    assert main([*SMALL, "--against", str(theirs), "--json", str(found)]) == 0
    table_lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[2].strip() for line in table_lines[2:]] == ["fp32", "original (theirs)"]
    ours, original = json.loads(found.read_text(encoding="utf-8"))["steps"]
    assert ours["flops"] > 1e8
    assert 0 < ours["share"] < 1
    assert ours["times_original"] == pytest.approx(original["median"] / ours["median"])


def test_what_is_no_checkout_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--against", str(tmp_path)]) == 2
    assert f"--against {tmp_path}: no options/train_options.py there" in capsys.readouterr().err


def test_the_last_words_of_a_process_that_does_not_start_are_told(tmp_path: Path) -> None:
    checkout(tmp_path, "raise ImportError('no torch of 2019')")
    worker = OriginalWorker("theirs", "against", tmp_path, [], {"batch_size": 1, "channels": 3, "crop_size": 32}, None)
    with pytest.raises(UserError, match=r"theirs: .*ImportError: no torch of 2019"), worker:
        pass
