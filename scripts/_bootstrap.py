"""The virtual environment ``.venv`` of this checkout, for the commands that a stranger runs first: made once, reused.

Standard library only; Python 3.7 and later can import this, and say what is wrong. The scripts that use it run their
steps with the environment's Python; nothing is installed outside of ``.venv``.
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

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)  # that the pinned packages support
CONSTRAINTS = "build-constraints.txt"
NEEDED_BYTES = 10 * 10**9  # for the packages, and for what pip downloads
EXIT_WRONG_PYTHON = 2


def wrong_python(version: tuple[int, int]) -> str | None:
    """Why Python ``version`` will not do, in one sentence; None if it will."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    found, oldest, newest = ("{}.{}".format(*pair) for pair in (version, OLDEST_PYTHON, NEWEST_PYTHON))
    age = "old" if version < OLDEST_PYTHON else "new"
    return (
        f"Python {found} is too {age} for this project: use {oldest} to {newest}, "
        f"for example 'python{newest} {sys.argv[0]}'."
    )


if sys.version_info[:2] < OLDEST_PYTHON:  # before any import that it does not understand
    print(f"error: {wrong_python(sys.version_info[:2])}", file=sys.stderr)
    sys.exit(EXIT_WRONG_PYTHON)

from util.errors import UserError


def python_of(venv: Path) -> Path:
    """The environment's Python, whether it exists or not."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def ensure(requirements: str, root: Path = ROOT, *, verbose: bool = False) -> Path:
    """Return the Python of an environment in which ``requirements`` (a file name in ``root``) is installed.

    An environment that is complete for these very requirements is used as it is; otherwise pip installs what lacks,
    also after an interruption. Nothing is ever removed.

    Raises:
        UserError: the environment cannot be made, or pip fails.
    """
    venv, python = root / ".venv", python_of(root / ".venv")
    record = venv / "cclgan-environment.json"
    installed = _read(record)
    if python.exists() and installed.get(requirements) == fingerprint(root, requirements, venv):
        return python
    _make_venv(venv)
    pip_install(root, python, requirements, verbose=verbose)
    installed.update({name: fingerprint(root, name, venv) for name in _included(root, requirements)})
    record.write_text(json.dumps({"installed": installed}, indent=1) + "\n", encoding="utf-8")
    return python


def run(python: Path, arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run ``python arguments...`` in ``root`` and return its exit code.

    After Ctrl-C, which the child receives too, the child may finish what it is writing; a second one ends it.
    """
    process = subprocess.Popen([str(python), *arguments], cwd=root, env=clean_environment())
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
        raise


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that would show the environment's Python other packages."""
    drop = {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in drop}


def pip_install(root: Path, python: Path, requirements: str, *, verbose: bool) -> None:
    """Install ``root / requirements`` with the environment's pip, which says itself what it does.

    Raises:
        UserError: pip fails.
    """
    print(f"Installing {requirements} into {python.parents[1]}: several GB the first time.", flush=True)
    log = python.parents[1] / "install.log"
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--log", str(log)]
    command += ["--verbose"] * verbose + ["-r", str(root / requirements)]
    # A user's "always --user" cannot work inside an environment.
    environment = {**clean_environment(), **build_constraints(root), "PIP_USER": "0"}
    if subprocess.call(command, cwd=root, env=environment):
        raise UserError(
            f"pip failed, as it says above (and in {log}); check network (PIP_INDEX_URL, HTTPS_PROXY) and free space, "
            "then run this again: it continues where it stopped."
        )


def build_constraints(root: Path) -> dict[str, str]:
    """What tells any pip which packages others may be built with: until 25.2 by the first variable, then the second.

    They are split at spaces: hence a URI.
    """
    ours = (root / CONSTRAINTS).as_uri()
    names = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    return {name: f"{os.environ.get(name, '')} {ours}".strip() for name in names}


def fingerprint(root: Path, requirements: str, venv: Path) -> str:
    """Changes with the requirements, the files they include, the build constraints and the environment's Python."""
    digest = hashlib.sha256(repr(_version(venv)).encode())
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


def _read(record: Path) -> dict[str, str]:
    try:
        return dict(json.loads(record.read_text(encoding="utf-8"))["installed"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _version(venv: Path) -> tuple[int, int] | None:
    """Major and minor version of the environment's Python, as written by venv; None if there is no environment."""
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, flags=re.MULTILINE)
    return (int(match[1]), int(match[2])) if match and python_of(venv).exists() else None


def _has_pip(venv: Path) -> bool:
    command = [str(python_of(venv)), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False, env=clean_environment()).returncode == 0


def _make_venv(venv: Path) -> None:
    """Leave a working environment with a pip; one that is there, the user's or cut off, is completed."""
    version = _version(venv)
    foreign = venv.exists() and not (venv / "pyvenv.cfg").is_file() and (not venv.is_dir() or any(venv.iterdir()))
    if foreign or (version is not None and wrong_python(version)):
        raise UserError(
            f"{venv} is there, but is no environment of Python 3.10 to 3.13: remove or rename it and try again."
        )
    if version is not None and _has_pip(venv):
        return
    wrong = wrong_python(sys.version_info[:2])
    if wrong:
        raise UserError(wrong)
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"this Python lacks the module {missing[0]}, with which an environment is made: install it (Debian, "
            f"Ubuntu: sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv) and try again."
        )
    free = shutil.disk_usage(venv.parent).free
    if free < NEEDED_BYTES:
        print(f"Only {free / 1e9:.1f} GB are free on this disk; the packages may need {NEEDED_BYTES / 1e9:.0f} GB.")
    command = [sys.executable, "-m", "venv", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise UserError(f"'{' '.join(command)}' failed: {(made.stderr or made.stdout).strip()}")
