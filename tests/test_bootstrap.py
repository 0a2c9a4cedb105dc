"""The scripts a stranger runs first: the environment they make, and what they say when it cannot be made."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import _bootstrap, demo, run_tests
from util.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
STATE = "cclgan-environment.json"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with requirement files only."""
    root = tmp_path / "my checkout"
    root.mkdir()
    (root / "requirements.txt").write_text("torch==1\n", encoding="utf-8")
    (root / "requirements-dev.txt").write_text("-r requirements.txt\npytest==2\n", encoding="utf-8")
    (root / "build-constraints.txt").write_text("setuptools<81\n", encoding="utf-8")
    return root


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been made and installed, in order, instead of doing it."""
    calls: list[str] = []

    def make(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if command[1:3] == ["-m", "venv"]:
            calls.append("venv")
            pretend_venv(Path(command[3]))
        else:
            assert command[1:4] == ["-m", "pip", "--version"]
        return subprocess.CompletedProcess(command, 0, "", "")

    def install(root: Path, python: Path, requirements: str, *, verbose: bool) -> None:
        calls.append(requirements)

    monkeypatch.setattr(_bootstrap.subprocess, "run", make)
    monkeypatch.setattr(_bootstrap, "pip_install", install)
    return calls


def pretend_venv(venv: Path, version: str = "3.11.7") -> None:
    python = _bootstrap.python_of(venv)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n", encoding="utf-8")


def failing(error: BaseException) -> Callable[..., None]:
    def install(*_: Any, **__: Any) -> None:
        raise error

    return install


def test_a_second_run_does_nothing(checkout: Path, installed: list[str]) -> None:
    first = _bootstrap.ensure("requirements.txt", checkout)
    assert first == _bootstrap.python_of(checkout / ".venv")
    assert _bootstrap.ensure("requirements.txt", checkout) == first
    assert installed == ["venv", "requirements.txt"]


def test_the_development_environment_serves_the_demo_too(checkout: Path, installed: list[str]) -> None:
    _bootstrap.ensure("requirements-dev.txt", checkout)
    _bootstrap.ensure("requirements.txt", checkout)
    assert installed == ["venv", "requirements-dev.txt"]


def test_the_demo_environment_is_extended_for_the_tests(checkout: Path, installed: list[str]) -> None:
    _bootstrap.ensure("requirements.txt", checkout)
    _bootstrap.ensure("requirements-dev.txt", checkout)
    assert installed == ["venv", "requirements.txt", "requirements-dev.txt"]


@pytest.mark.parametrize("changed", ["requirements.txt", "requirements-dev.txt", "build-constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(
    checkout: Path, installed: list[str], changed: str
) -> None:
    _bootstrap.ensure("requirements-dev.txt", checkout)
    (checkout / changed).write_text("something==3\n", encoding="utf-8")
    _bootstrap.ensure("requirements-dev.txt", checkout)
    assert installed == ["venv", "requirements-dev.txt", "requirements-dev.txt"]


def test_line_endings_are_no_change(checkout: Path, installed: list[str]) -> None:
    _bootstrap.ensure("requirements.txt", checkout)
    (checkout / "requirements.txt").write_bytes(b"torch==1\r\n")
    _bootstrap.ensure("requirements.txt", checkout)
    assert installed == ["venv", "requirements.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no network")])
def test_an_installation_that_was_cut_off_is_not_trusted_but_completed(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_bootstrap, "pip_install", failing(error))
        with pytest.raises(type(error)):
            _bootstrap.ensure("requirements.txt", checkout)
    _bootstrap.ensure("requirements.txt", checkout)
    assert installed == ["venv", "requirements.txt"]


def test_an_environment_that_was_cut_off_before_it_had_pip_is_completed(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    assert not _bootstrap._has_pip(venv)
    _bootstrap._make_venv(venv)
    assert _bootstrap._has_pip(venv)


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Path, installed: list[str]) -> None:
    python = _bootstrap.ensure("requirements.txt", checkout)
    python.unlink()
    _bootstrap.ensure("requirements.txt", checkout)
    assert installed == ["venv", "requirements.txt"] * 2


def test_the_users_own_environment_is_used_and_never_removed(checkout: Path, installed: list[str]) -> None:
    pretend_venv(checkout / ".venv")
    mine = checkout / ".venv" / "mine"
    mine.touch()
    _bootstrap.ensure("requirements.txt", checkout)
    (checkout / ".venv" / STATE).write_text("half", encoding="utf-8")
    _bootstrap.ensure("requirements.txt", checkout)
    assert installed == ["requirements.txt"] * 2
    assert mine.exists()


def test_a_folder_that_is_no_environment_is_named_and_kept(checkout: Path, installed: list[str]) -> None:
    mine = checkout / ".venv" / "notes.txt"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(UserError, match=r"\.venv is there, but is no environment"):
        _bootstrap.ensure("requirements.txt", checkout)
    assert mine.exists() and not installed


def test_the_users_environment_of_another_python_is_named(checkout: Path, installed: list[str]) -> None:
    pretend_venv(checkout / ".venv", "3.8.1")
    with pytest.raises(UserError, match="remove or rename"):
        _bootstrap.ensure("requirements.txt", checkout)
    assert not installed


def test_a_python_without_ensurepip_is_told_what_to_install(
    checkout: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> object | None:
        return None if name == "ensurepip" else object()

    monkeypatch.setattr(_bootstrap.importlib.util, "find_spec", find_spec)
    with pytest.raises(UserError, match=r"ensurepip.*apt install python3\.\d+-venv"):
        _bootstrap.ensure("requirements.txt", checkout)


def test_every_pip_gets_the_constraint_safe_for_spaces_beside_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "mine.txt")
    variables = _bootstrap.build_constraints(tmp_path / "a b")
    ours = variables["PIP_BUILD_CONSTRAINT"]
    assert ours.endswith("/a%20b/build-constraints.txt")
    assert variables["PIP_CONSTRAINT"].split() == ["mine.txt", ours]


def test_a_failing_pip_is_one_sentence_below_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    package = checkout / "pip"
    package.mkdir()
    (package / "__init__.py").touch()
    program = "import os, sys\nprint(os.environ['PIP_USER'], *sys.argv[1:3])\nsys.exit(1)\n"
    (package / "__main__.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(checkout)  # python -m finds this pip first
    with pytest.raises(UserError, match=r"pip failed.*install\.log.*run this again"):
        _bootstrap.pip_install(checkout, Path(sys.executable), "requirements.txt", verbose=False)
    assert "0 install --disable-pip-version-check" in capfd.readouterr().out


def test_other_packages_on_pythonpath_are_hidden_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert "PYTHONPATH" not in _bootstrap.clean_environment()


def test_exit_codes_are_passed_on(tmp_path: Path) -> None:
    assert _bootstrap.run(Path(sys.executable), ["-I", "-c", "raise SystemExit(7)"], tmp_path) == 7


@pytest.mark.parametrize(("version", "word"), [((3, 9), "old"), ((2, 7), "old"), ((3, 14), "new"), ((4, 0), "new")])
def test_unsupported_pythons_are_told(version: tuple[int, int], word: str) -> None:
    assert f"too {word}" in (_bootstrap.wrong_python(version) or "")


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_supported_pythons_pass(version: tuple[int, int]) -> None:
    assert _bootstrap.wrong_python(version) is None


@pytest.mark.parametrize("script", ["demo.py", "run_tests.py"])
def test_help_needs_no_package(script: str, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-I", str(ROOT / "scripts" / script), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout


@pytest.mark.parametrize("arguments", [["--name", "../x"], ["--name", "a\\b"], ["--epochs", "0"], ["--seed", "-1"]])
def test_the_demo_refuses_bad_values(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {arguments[0]}")


class Recorder(demo.Steps):
    """Instead of running train.py, notes its flags and leaves what it would."""

    def __init__(self, run_folder: Path, code: int = 0) -> None:
        super().__init__()
        self.commands: list[list[str]] = []
        self._run_folder, self._code = run_folder, code

    def run(self, script: str, *arguments: str) -> None:
        self.commands.append([script, *arguments])
        self._run_folder.mkdir(parents=True, exist_ok=True)
        (self._run_folder / demo.TRAINING_STATE).touch()
        if self._code:
            raise demo.StepFailed(self._code)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``trained(*argv, code=0)``: the flags of train.py in one run of the training step, [] if it was skipped."""
    monkeypatch.setattr(demo, "DATASET", tmp_path)
    (tmp_path / "dataset.yaml").write_text("{}", encoding="utf-8")

    def train(*argv: str, code: int = 0) -> list[str]:
        steps = Recorder(tmp_path / "checkpoints" / "rain_demo", code)
        with contextlib.suppress(demo.StepFailed):
            demo.train(steps, demo.parse(argv), tmp_path / "checkpoints")
        return steps.commands[0][1:] if steps.commands else []

    return train


def test_a_finished_training_is_not_repeated(trained: Callable[..., list[str]]) -> None:
    assert "--config" in trained()
    assert trained() == []


def test_an_interrupted_training_goes_on(trained: Callable[..., list[str]]) -> None:
    trained(code=130)
    assert trained() == ["--name", "rain_demo", "--continue_train"]
    assert trained() == []


@pytest.mark.parametrize("argv", [["--retrain"], ["--seed", "5"], ["--epochs", "3"]])
def test_other_settings_and_retrain_start_over(trained: Callable[..., list[str]], argv: list[str]) -> None:
    trained()
    assert "--config" in trained(*argv)


def test_epochs_are_split_between_constant_and_falling_rate(trained: Callable[..., list[str]]) -> None:
    flags = trained("--epochs", "7")
    assert flags[flags.index("--n_epochs") + 1] == "4"
    assert flags[flags.index("--n_epochs_decay") + 1] == "3"


def test_every_check_runs_even_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(python: Path, arguments: list[str]) -> int:
        ran.append(arguments[1])
        return 3 if arguments[1] == "mypy" else 0

    monkeypatch.setattr(_bootstrap, "run", run)
    assert not run_tests.run_checks(Path("python"), run_tests.checks(heavy=False, pytest_arguments=[]))
    assert ran == ["ruff", "ruff", "mypy", "pytest"]
    assert "FAILED (exit code 3)" in capsys.readouterr().out


def test_arguments_after_two_dashes_go_to_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, list[str]]] = []

    def run_checks(python: Path, commands: dict[str, list[str]]) -> bool:
        seen.append(commands)
        return True

    monkeypatch.setattr(_bootstrap, "ensure", lambda *_, **__: Path("python"))
    monkeypatch.setattr(run_tests, "run_checks", run_checks)
    assert run_tests.main(["--heavy", "--", "-k", "rain"]) == 0
    assert seen[0]["pytest"][-4:] == ["-m", "", "-k", "rain"]
