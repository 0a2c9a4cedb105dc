"""scripts/doctor.py: its report, its exit code, and that nothing a check runs into ends it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from options import parse_test, parse_train
from scripts import doctor
from scripts._doctor.checks import OK, PROBLEM, WARNING, Check, Finding, as_json, examine, run_checks, summary
from tests.doctor_findings import FINE, only
from util.errors import UserError


def test_a_finding_is_one_printable_line_whatever_a_file_is_called() -> None:
    line = Finding(PROBLEM, "images", "a\nb\x1b[31m\udcff.png", "rename it").line()
    assert line == r"problem  images: a\nb\x1b[31m\udcff.png -> rename it"


def test_json_is_ascii_and_says_whether_all_is_well() -> None:
    text = as_json([FINE, Finding(PROBLEM, "images", "é\udcff", "x")])
    content = json.loads(text)
    assert text.isascii() and content["healthy"] is False
    assert content["count"] == {"ok": 1, "warning": 0, "problem": 1}
    assert content["findings"][1] == {"status": "problem", "subject": "images", "found": "é\udcff", "todo": "x"}
    assert json.loads(as_json([FINE]))["healthy"] is True


def test_the_last_line_counts() -> None:
    assert summary([FINE, Finding(PROBLEM, "a", "b")]) == "1 problem, 0 warnings, 1 ok"


def after(finding: Finding, error: BaseException) -> Iterator[Finding]:
    yield finding
    raise error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ZeroDivisionError("none left"), PROBLEM, "the check itself failed (ZeroDivisionError: none left; test_"),
        (UserError("--flag 3: is wrong; give 4."), PROBLEM, "--flag 3: is wrong; give 4."),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), WARNING, "not checked, because timm"),
        (ImportError("cannot import name 'x'", name="util.x"), PROBLEM, "the check itself failed (ImportError"),
        (SystemExit(3), PROBLEM, "the check itself failed (SystemExit"),
    ],
)  # fmt: skip
def test_what_a_check_raises_is_a_finding_after_those_before(error: BaseException, status: str, words: str) -> None:
    first, second = examine(Check("it", partial(after, FINE, error)), {})
    assert first == FINE
    assert second.status == status and second.found.startswith(words)


def test_a_module_that_cannot_be_imported_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text(
        "from pathlib import Path\n"
        "with Path(__file__).with_name('tries').open('a') as file: file.write('x')\n"
        "raise OSError('libsomething.so: cannot open shared object file')\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    broken: dict[str, str] = {}
    about = only(examine(Check("it", list, ("half_installed",), without=PROBLEM), broken))
    later = only(examine(Check("later", lambda: [FINE], ("half_installed", "json"), without=PROBLEM), broken))
    assert about.status == PROBLEM and "libsomething.so" in about.found
    assert later.status == WARNING and "half_installed cannot be imported" in later.found
    assert (tmp_path / "tries").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_check_that_ends_its_process_or_never_ends_does_not_end_the_report() -> None:
    checks = [
        Check("crashes", os.abort, ("json",)),
        Check("hangs", partial(time.sleep, 60), seconds=0.5),  # type: ignore[arg-type]
        Check("next", partial(list, [FINE])),
        Check("as crashed", partial(list, [FINE]), ("json",)),
    ]
    crashed, hung, fine, blamed = run_checks(checks)
    assert crashed.status == PROBLEM and "SIGABRT" in crashed.found
    assert hung.status == PROBLEM and "did not end within" in hung.found
    assert fine == FINE
    assert blamed.status == WARNING and "json cannot be imported" in blamed.found


def test_the_defaults_are_those_of_the_programs() -> None:
    args = doctor.parse([])
    train, test = parse_train(["--dataroot", "x"]), parse_test(["--dataroot", "x"])
    assert args.checkpoints_dir == train.checkpoints_dir and args.results_dir == test.results_dir
    assert (args.display_server, args.display_port) == (train.display_server, train.display_port)


@pytest.mark.parametrize(
    "flags", [["--dataroot", ""], ["--name="], ["--display_port", "0"], ["--display_port", "65536"]]
)
def test_flags_that_say_nothing(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(flags) == 2
    assert flags[0].rstrip("=") in capsys.readouterr().err


def test_the_exit_code_says_whether_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two checks instead of all."""

    def checks(args: argparse.Namespace) -> list[Check]:
        status = PROBLEM if args.name else WARNING
        return [Check("it", partial(list, [FINE, Finding(status, "it", "was found")]))]

    monkeypatch.setattr(doctor, "checks_for", checks)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 problems, 1 warning, 1 ok"
    assert doctor.main(["--name", "x", "--json"]) == doctor.EXIT_PROBLEM
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_the_whole_command(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """No network, no weights of CLIP: warnings, but nothing is broken, and nothing is written."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    flags = ["--dataroot", str(dataset), "--checkpoints_dir", str(tmp_path / "c"), "--results_dir", str(tmp_path / "r")]
    code = doctor.main([*flags, "--display_port", str(free), "--json"])
    content = json.loads(capsys.readouterr().out)
    found = {finding["subject"]: finding for finding in content["findings"]}
    crashed = [finding for finding in content["findings"] if "check itself" in finding["found"]]
    assert not crashed
    assert code == (0 if content["healthy"] else 1)
    assert found["CLIP weights (ViT-B-32, openai)"]["status"] == WARNING
    assert found["PyTorch"]["status"] == found["test pairs"]["status"] == OK
    assert not (tmp_path / "c").exists() and not (tmp_path / "r").exists()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_the_doctors_modules_need_the_standard_library_alone() -> None:
    """So that they can say that everything else is missing."""
    import subprocess

    program = "import sys; sys.path.insert(0, sys.argv[1]); import scripts.doctor; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", program, str(doctor.ROOT)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "yaml", "options", "data", "models"} & set(loaded)
