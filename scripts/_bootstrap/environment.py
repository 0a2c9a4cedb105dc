"""The virtual environment ``.venv`` of this checkout: made once, reused, mended when an installation was interrupted.

Standard library only. The scripts that use it run their steps with the environment's Python; nothing is installed
outside of ``.venv``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts._bootstrap import pip
from scripts._bootstrap.python import NEWEST_PYTHON, OLDEST_PYTHON
from util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = "build-constraints.txt"
# pip wants room for the packages and, meanwhile, for what it downloads.
NEEDED_BYTES = 10 * 10**9


def python_of(venv: Path) -> Path:
    """The environment's Python, whether it exists or not."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def ensure(requirements: str, root: Path = ROOT, verbose: bool = False) -> Path:
    """Return the Python of an environment in which ``requirements`` (a file name in ``root``) is installed.

    An environment that is complete for these very requirements is used as it is. One whose installation was
    interrupted is made anew; one whose requirements changed is updated. Raises :class:`UserError`.
    """
    venv = root / ".venv"
    state = _read_state(venv)
    python = python_of(venv)
    if state.get("installed", {}).get(requirements) == fingerprint(root, requirements, venv) and python.exists():
        return python
    made_here = _prepare_venv(venv, state)
    try:
        pip.install(root, venv, python, requirements, root / CONSTRAINTS, verbose)
    except UserError:
        # pip itself gave up and left what was there: the next run can go on. Only an interruption leaves halves.
        _write_state(venv, {"made_here": made_here, "installed": {}})
        raise
    installed = {name: fingerprint(root, name, venv) for name in _included(root, requirements)}
    _write_state(venv, {"made_here": made_here, "installed": installed})
    return python


def run(python: Path, arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run ``python arguments...`` in ``root`` and return its exit code.

    After Ctrl-C, which the child receives too, the child may finish what it is writing; a second one ends it.
    """
    process = subprocess.Popen([str(python), *arguments], cwd=root, env=pip.clean_environment())
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
        raise


def fingerprint(root: Path, requirements: str, venv: Path) -> str:
    """Changes with the requirements, the files they include, the build constraints and the environment's Python."""
    digest = hashlib.sha256(_python_version(venv).encode())
    for name in [*_included(root, requirements), CONSTRAINTS]:
        digest.update(b"\0" + name.encode() + b"\0" + (root / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _included(root: Path, requirements: str) -> list[str]:
    """The requirement file and those it includes by ``-r``, in that order."""
    text = (root / requirements).read_text(encoding="utf-8")
    names = [requirements]
    for name in re.findall(r"^-r\s+(\S+)", text, flags=re.MULTILINE):
        names += _included(root, name)
    return names


def _python_version(venv: Path) -> str:
    """Major and minor version of the environment's Python, as written by venv; empty when there is none."""
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ""
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", text, flags=re.MULTILINE)
    return match.group(1) if match else ""


def _state_file(venv: Path) -> Path:
    return venv / "cclgan-environment.json"


def _read_state(venv: Path) -> dict[str, Any]:
    try:
        state = json.loads(_state_file(venv).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(venv: Path, state: dict[str, Any]) -> None:
    temporary = _state_file(venv).with_suffix(".tmp")
    temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    temporary.replace(_state_file(venv))


def _prepare_venv(venv: Path, state: dict[str, Any]) -> bool:
    """Leave a working environment, marked as incomplete until all is installed; return whether it is our own."""
    made_here = bool(state.get("made_here", False))
    if made_here and ("installed" not in state or not _usable(venv)):
        print("The environment in .venv is incomplete; it is made anew.")
        shutil.rmtree(venv)
    elif not made_here and venv.exists() and not _usable(venv) and (not venv.is_dir() or any(venv.iterdir())):
        raise UserError(
            f"{venv} is there, but is no environment of Python 3.10 to 3.13: remove or rename it and try again."
        )
    try:
        if not venv.exists() or not _usable(venv):
            made_here = True
            _make_venv(venv)
        _write_state(venv, {"made_here": made_here})
    except OSError as error:
        raise UserError(f"cannot make the environment {venv}: {error}.") from error
    return made_here


def _make_venv(venv: Path) -> None:
    _require_venv_module()
    free = shutil.disk_usage(venv.parent).free
    if free < NEEDED_BYTES:
        print(f"Only {free / 1e9:.1f} GB are free on this disk; the packages may need {NEEDED_BYTES / 1e9:.0f} GB.")
    venv.mkdir(exist_ok=True)
    _write_state(venv, {"made_here": True})  # before the rest, so that an interruption is noticed
    command = [sys.executable, "-m", "venv", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise UserError(f"'{' '.join(command)}' failed:\n{(made.stderr or made.stdout).strip()}")


def _usable(venv: Path) -> bool:
    """Whether there is an environment with a Python that the pins are made for."""
    version = _python_version(venv)
    if not version or not python_of(venv).exists():
        return False
    major, minor = version.split(".")
    return OLDEST_PYTHON <= (int(major), int(minor)) <= NEWEST_PYTHON


def _require_venv_module() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise UserError(
            f"this Python lacks the module {missing[0]}, with which an environment is made: install it "
            f"(Debian, Ubuntu: sudo apt install python{version}-venv) and try again."
        )
