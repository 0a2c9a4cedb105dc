"""scripts/ablate.py: which commands it runs, what it skips, what it writes. The processes are played by a fake."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import test as test_program
import train as train_program
from options import parse_train, save_options
from scripts import ablate
from scripts._ablation import runs as runner
from scripts._ablation.grids import GRIDS, Grid, GridRow
from tests.conftest import small_model_flags

ROOT = Path(__file__).resolve().parents[1]
INPUT = {"input_psnr": 20.0, "input_ssim": 0.5, "input_psnr_rgb": 19.0, "input_ciede2000": 9.0}


class FakePrograms:
    """Plays train.py and test.py: records the calls, leaves the files that they would leave, ends as told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.code: Callable[[list[str]], int] = lambda command: 0
        self.psnr: Callable[[str], float] = lambda name: 25.0
        self.running = self.most_at_once = 0

    def __call__(self, command: list[str], **_: Any) -> FakeProcess:
        assert command[0] == sys.executable
        self.calls.append(command)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        return FakeProcess(self, command)

    def finish(self, command: list[str]) -> int:
        self.running -= 1
        code = self.code(command)
        program, flags = Path(command[1]).name, command[2:]
        if program == "train.py":
            opt = parse_train([flag for flag in flags if flag != "--continue_train"])
            folder = Path(opt.checkpoints_dir) / opt.name
            save_options(opt, folder / "options.yaml")
            (folder / "training_state.pth").touch()
        elif code == 0:
            self.leave_metrics(value(flags, "--name"), Path(value(flags, "--results_dir")), value(flags, "--protocol"))
        return code

    def leave_metrics(self, name: str, results: Path, protocol: str) -> None:
        mean = {**INPUT, "psnr": self.psnr(name), "ssim": 0.8, "psnr_rgb": 24.0, "ciede2000": 5.0}
        folder = results / name / "test_latest"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"protocol": protocol, "count": 2, "mean": mean}))

    def names(self, program: str) -> list[str]:
        return [value(call, "--name") for call in self.calls if call[1].endswith(program)]


class FakeProcess:
    def __init__(self, programs: FakePrograms, command: list[str]) -> None:
        self.programs, self.command = programs, command

    def poll(self) -> int:
        return self.programs.finish(self.command)


def value(flags: list[str], name: str) -> str:
    return flags[flags.index(name) + 1]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    fake = FakePrograms()
    monkeypatch.setattr(runner.subprocess, "Popen", fake)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0)
    return fake


@pytest.fixture
def command(dataset: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments for a grid, with everything below the test's folder."""

    def arguments(grid: str, *flags: str) -> list[str]:
        places = ["--checkpoints_dir", str(tmp_path / "checkpoints"), "--results_dir", str(tmp_path / "results")]
        return [grid, "--dataroot", str(dataset), *places, *flags]

    return arguments


def read_csv(tmp_path: Path, grid: str) -> dict[str, dict[str, str]]:
    with (tmp_path / "results" / grid / f"{grid}.csv").open(encoding="utf-8", newline="") as file:
        return {line["row"]: line for line in csv.DictReader(file)}


def test_the_grids_have_the_papers_rows_and_numbers() -> None:
    numbers = {name: [row.paper for row in grid.rows] for name, grid in GRIDS.items()}
    assert numbers["table1"] == [(24.86, 0.7906), (25.21, 0.8225), (29.17, 0.9234)]
    assert numbers["table2"] == [(27.67, 0.886), (27.43, 0.9117), (26.37, 0.8498), (26.21, 0.8544), (29.17, 0.9234)]
    assert [row.key for row in GRIDS["table3"].rows] == [row.key for row in GRIDS["table4"].rows]


@pytest.mark.parametrize(("key", "off"), [
    ("C", {"lambda_intra"}), ("D", {"lambda_inter"}), ("E", {"lambda_intra", "lambda_inter"}),
    ("F", {"lambda_NCE"}), ("G", set()),
])  # fmt: skip
def test_rows_of_table_2_turn_off_what_they_lack_and_nothing_else(key: str, off: set[str]) -> None:
    row = next(row for row in GRIDS["table2"].rows if row.key == key)
    opt = parse_train(["--dataroot", "data", *row.flags])
    weights = ("lambda_GAN", "lambda_NCE", "lambda_intra", "lambda_inter")
    assert {weight for weight in weights if getattr(opt, weight) == 0} == off


def test_it_trains_and_tests_every_row_with_every_seed(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert ablate.main(command("table3", "--seeds", "0,7", "--", "--ngf", "8", "--gpu_ids", "-1")) == 0
    expected = [f"table3_{key}_seed{seed}" for seed in (0, 7) for key in ("real", "fake", "both")]
    assert programs.names("train.py") == programs.names("test.py") == expected
    train, test = programs.calls[2:4]
    assert value(train, "--intra_negatives") == "fake" and value(train, "--seed") == "0"
    assert value(train, "--ngf") == "8" and "--ngf" not in test
    assert value(train, "--gpu_ids") == value(test, "--gpu_ids") == "-1"
    assert programs.most_at_once == 1


def test_the_table_has_mean_and_deviation_the_input_and_the_papers_numbers(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    programs.psnr = lambda name: 24.0 + int(name[-1])
    assert ablate.main(command("table2", "--seeds", "0,1,2", "--", "--ngf", "8")) == 0
    lines = read_csv(tmp_path, "table2")
    assert next(iter(lines)) == "rainy input"
    assert float(lines["rainy input"]["psnr_mean"]) == 20.0
    row = lines["E: LCL"]
    assert (float(row["psnr_mean"]), float(row["psnr_std"])) == (25.0, 1.0)
    assert (float(row["paper_psnr_mean"]), float(row["paper_ssim_mean"])) == (26.37, 0.8498)
    text = (tmp_path / "results" / "table2" / "table2.md").read_text(encoding="utf-8")
    for fact in ("25.00 ± 1.00", "seeds 0, 1, 2", "Protocol 'y'", "200 + 200 epochs, crop 256", "ngf 8", "2 test"):
        assert fact in text, fact


def test_done_rows_are_skipped_and_changed_settings_are_not(
    programs: FakePrograms, command: Callable[..., list[str]]
) -> None:
    assert ablate.main(command("table3", "--", "--lr", "0.001")) == 0
    programs.calls.clear()
    assert ablate.main(command("table3", "--", "--lr", "1e-3", "--display_id", "0", "--num_threads", "0")) == 0
    assert programs.calls == []
    assert ablate.main(command("table3", "--", "--lr", "0.002")) == 0
    assert len(programs.calls) == 6
    assert not any("--continue_train" in call for call in programs.calls)


def test_metrics_that_were_measured_again_otherwise_are_not_taken(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert ablate.main(command("table3")) == 0
    programs.psnr = lambda name: 99.0
    programs.leave_metrics("table3_real_seed0", tmp_path / "results", "y")
    programs.calls.clear()
    programs.psnr = lambda name: 26.0
    assert ablate.main(command("table3")) == 0
    assert programs.names("test.py") == ["table3_real_seed0"]
    assert float(read_csv(tmp_path, "table3")["real"]["psnr_mean"]) == 26.0


def test_the_full_model_is_trained_once_for_all_tables(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert ablate.main(command("table3")) == 0
    programs.calls.clear()
    programs.psnr = lambda name: 99.0
    assert ablate.main(command("table4")) == 0
    assert programs.names("train.py") == ["table4_real_seed0", "table4_fake_seed0"]
    assert float(read_csv(tmp_path, "table4")["both"]["psnr_mean"]) == 25.0


def test_a_failing_row_is_recorded_and_the_others_go_on(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.code = lambda call: 1 if call[1].endswith("train.py") and "table3_fake_seed0" in call else 0
    assert ablate.main(command("table3")) == 1
    lines = read_csv(tmp_path, "table3")
    assert lines["fake"]["psnr_mean"] == "" and "exit code 1" in lines["fake"]["remark"]
    assert float(lines["both"]["psnr_mean"]) == 25.0
    assert "table3_fake_seed0: failed: train.py" in capsys.readouterr().err
    assert programs.names("test.py") == ["table3_real_seed0", "table3_both_seed0"]


def test_an_interrupted_training_goes_on(programs: FakePrograms, command: Callable[..., list[str]]) -> None:
    programs.code = lambda call: 130 if "table3_fake_seed0" in call else 0
    assert ablate.main(command("table3")) == 1
    programs.calls.clear()
    programs.code = lambda call: 0
    assert ablate.main(command("table3")) == 0
    assert [("--continue_train" in call, Path(call[1]).name) for call in programs.calls] == [
        (True, "train.py"), (False, "test.py"),
    ]  # fmt: skip


def test_a_training_of_other_settings_is_not_gone_on_with(
    programs: FakePrograms, command: Callable[..., list[str]]
) -> None:
    programs.code = lambda call: 130 if "table3_fake_seed0" in call else 0
    ablate.main(command("table3"))
    programs.calls.clear()
    programs.code = lambda call: 0
    assert ablate.main(command("table3", "--", "--lambda_identity", "0")) == 0
    assert not any("--continue_train" in call for call in programs.calls)


def test_jobs_run_so_many_at_once_with_a_log_each(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert ablate.main(command("table2", "--jobs", "3")) == 0
    assert programs.most_at_once == 3
    assert len(list((tmp_path / "results" / "table2" / "logs").iterdir())) == 5


def test_dry_run_prints_the_commands_and_writes_nothing(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert ablate.main(command("table2", "--seeds", "0,1", "--dry_run")) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert sum("train.py" in line for line in printed) == sum("test.py" in line for line in printed) == 10
    assert programs.calls == [] and sorted(tmp_path.rglob("*")) == before


def test_a_models_own_flag_goes_to_that_models_rows(programs: FakePrograms, command: Callable[..., list[str]]) -> None:
    assert ablate.main(command("table1", "--", "--semantic_encoder", "efficientnet_lite0", "--ngf", "8")) == 0
    trained = [call for call in programs.calls if call[1].endswith("train.py")]
    assert [("--semantic_encoder" in call, "--ngf" in call) for call in trained] == [(False, True)] * 2 + [(True, True)]


@pytest.mark.parametrize(("flags", "told"), [
    (["table5"], "did you mean 'table"),
    (["table2", "--seeds", "1,x"], "--seeds"),
    (["table2", "--jobs", "0"], "--jobs"),
    (["table2", "--", "--name", "mine"], "--name"),
    (["table2", "--", "--ngff", "8"], "did you mean 'ngf'"),
    (["table2", "--", "8"], "follows no flag"),
    (["table2", "--protocol", "luma"], "--protocol"),
])  # fmt: skip
def test_mistakes_are_told_before_anything_runs(
    programs: FakePrograms, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    flags: list[str], told: str,
) -> None:  # fmt: skip
    assert ablate.main(command(*flags)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert told in error
    assert programs.calls == [] and not (tmp_path / "results").exists()


def test_a_test_set_without_pairs_is_told_before_training(
    programs: FakePrograms, command: Callable[..., list[str]], dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (dataset / "testB").iterdir():
        file.unlink()
    assert ablate.main(command("table2")) == 2
    error = capsys.readouterr().err
    assert "testB" in error and "--eval_pairs" not in error
    assert programs.calls == []


MINIATURE = Grid("Miniature", (GridRow("cut", "CUT", ("--model", "cut"), (1.0, 0.5)),
                               GridRow("broken", "broken", ("--model", "cut", "--nce_layers", "99"))))  # fmt: skip


class WithinThisProcess:
    """Stands for a process; calls the program at once instead, which saves seconds of imports."""

    def __init__(self, command: list[str], **_: Any) -> None:
        program = {"train.py": train_program, "test.py": test_program}[Path(command[1]).name]
        self.code = program.main(command[2:])

    def poll(self) -> int:
        return self.code


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_two_real_rows_one_of_which_fails(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    """Through the real programs: one epoch of a tiny CUT, and a row whose layer does not exist."""
    monkeypatch.setitem(GRIDS, "table1", MINIATURE)
    if not processes:
        own = SimpleNamespace(Popen=WithinThisProcess, STDOUT=subprocess.STDOUT)  # other modules keep the real one
        monkeypatch.setattr(runner, "subprocess", own)
    flags = [*small_model_flags("cut")[2:], "--n_epochs", "1", "--n_epochs_decay", "0", "--max_dataset_size", "1"]
    assert ablate.main(command("table1", "--jobs", "2", "--", *flags, "--no_html")) == 1
    lines = read_csv(tmp_path, "table1")
    metrics = json.loads((tmp_path / "results" / "table1_cut_seed0" / "test_latest" / "metrics.json").read_text())
    assert float(lines["CUT"]["psnr_mean"]) == metrics["mean"]["psnr"]
    assert float(lines["rainy input"]["ciede2000_mean"]) == metrics["mean"]["input_ciede2000"]
    assert "exit code 2" in lines["broken"]["remark"]
    options = yaml.safe_load((tmp_path / "checkpoints" / "table1_cut_seed0" / "options.yaml").read_text())["resolved"]
    assert (options["seed"], options["ngf"], options["model"]) == (0, 4, "cut")
    log = tmp_path / "results" / "table1" / "logs" / "table1_broken_seed0.log"
    assert not processes or "layer '99'" in log.read_text(encoding="utf-8")


@pytest.mark.heavy
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_it_after_saving_and_the_next_call_goes_on(
    command: Callable[..., list[str]], tmp_path: Path, number: str
) -> None:
    flags = [*small_model_flags("cclgan")[2:], "--n_epochs", "500", "--n_epochs_decay", "0", "--print_freq", "1"]
    arguments = [sys.executable, str(ROOT / "scripts" / "ablate.py"), *command("table3")]
    process = subprocess.Popen([*arguments, "--", *flags], start_new_session=True, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "checkpoints" / "table3_real_seed0"
    until = time.monotonic() + 120
    while not (run / "losses.csv").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    if number == "SIGINT":  # as a terminal does it, to the whole group
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait(120) == 130, errors
    assert (run / "training_state.pth").is_file()
    assert not (tmp_path / "checkpoints" / "table3_fake_seed0").exists()
    assert "interrupted" in read_csv(tmp_path, "table3")["real"]["remark"]
    dry = subprocess.run([*arguments, "--dry_run", "--", *flags], capture_output=True, text=True, check=True)
    assert dry.stdout.count("--continue_train") == 1
