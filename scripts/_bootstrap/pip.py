"""Installing requirement files with the pip of a virtual environment. Standard library only."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from util.errors import UserError

# From this version on pip ignores PIP_CONSTRAINT where it builds packages and has an option for it.
PIP_WITH_BUILD_CONSTRAINT = (25, 3)
LOG_LINES_SHOWN = 15
PLAIN_REPORT_SECONDS = 15.0
STATUS_WIDTH = 78
PROGRESS_LINE = re.compile(r"\s*(Collecting|Downloading|Using cached|Building|Installing|Preparing)")
NETWORK_SIGNS = (
    "NewConnectionError",
    "Failed to establish",
    "Max retries",
    "Temporary failure",
    "ProxyError",
    "timed out",
    "ConnectionResetError",
)
DISK_SIGNS = ("No space left on device", "not enough space")


def constraint_for(pip_version: tuple[int, int], constraints: Path) -> tuple[list[str], dict[str, str]]:
    """How this pip learns what packages may be built with: arguments and environment variables to add."""
    if pip_version >= PIP_WITH_BUILD_CONSTRAINT:
        return ["--build-constraint", str(constraints)], {}
    # Older pips hand this variable on to the pip that fills the build environment. It is split at spaces: hence a URI.
    given = os.environ.get("PIP_CONSTRAINT", "")
    return [], {"PIP_CONSTRAINT": f"{given} {constraints.as_uri()}".strip()}


def explain_failure(log: Sequence[str]) -> str:
    """One sentence about why pip failed, guessed from its output."""
    text = "\n".join(log)
    if any(sign in text for sign in DISK_SIGNS):
        return "The disk is full."
    if any(sign in text for sign in NETWORK_SIGNS):
        return (
            "pip could not reach the package registry; check the network (or PIP_INDEX_URL, HTTPS_PROXY) and try again."
        )
    if "No matching distribution" in text:
        return "The registry has no file of that version for this Python and system."
    return "pip failed."


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that would show the environment's Python other packages."""
    drop = {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in drop}


def pip_version(python: Path) -> tuple[int, int]:
    """Major and minor version of the environment's pip."""
    output = subprocess.run(
        [str(python), "-m", "pip", "--version"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    ).stdout
    match = re.match(r"pip (\d+)\.(\d+)", output)
    if not match:
        raise UserError(f"{python} has no pip: remove {python.parents[1]} and try again.")
    return int(match.group(1)), int(match.group(2))


def install(root: Path, venv: Path, python: Path, requirements: str, constraints: Path, verbose: bool) -> None:
    """Install the requirement file ``root / requirements`` with the pip of ``python``, showing progress.

    All output goes to ``venv / install.log``. Raises :class:`UserError` when pip fails; Ctrl-C ends pip as well.
    """
    arguments, variables = constraint_for(pip_version(python), constraints)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    command += ["-r", str(root / requirements)]
    # A user's "always --user" cannot work inside an environment.
    environment = {**clean_environment(), **variables, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    log_path = venv / "install.log"
    print(f"Installing {requirements} into {venv}: several GB the first time, minutes on a fast connection.")
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    with log_path.open("w", encoding="utf-8") as log:
        lines = _follow(process, log, _Status(verbose))
    if process.returncode:
        shown = "\n".join(f"    {line}" for line in lines[-LOG_LINES_SHOWN:])
        raise UserError(f"{explain_failure(lines)} Its last lines (all of them: {log_path}):\n{shown}")
    print(f"Installed in {time.monotonic() - start:.0f} s.")


def _follow(process: subprocess.Popen[str], log: IO[str], report: Callable[[str], None]) -> list[str]:
    """Log and report pip's output until it ends; returns its lines. Ctrl-C ends pip as well."""
    lines: list[str] = []
    try:
        for line in _lines_or_ticks(process):
            if line:
                lines.append(line)
                log.write(line + "\n")
                log.flush()
            report(line)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        report("\n")
    return lines


def _lines_or_ticks(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of a process, and an empty one after each second without any."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            line = ""
        if line is None:
            process.wait()
            return
        yield line


class _Status:
    """pip's output as one line that is overwritten; on a plain stream as a line now and then; or all of it."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._start = time.monotonic()
        self._next_report = self._start
        self._text = "looking up packages"

    def __call__(self, line: str) -> None:
        """Show progress; ``line`` is pip's, or empty when only time has passed, or a newline at the end."""
        if self._verbose:
            if line.strip():
                print(line.encode("ascii", "replace").decode(), flush=True)
            return
        terminal = sys.stdout.isatty()
        if line == "\n":
            print("\r" + " " * STATUS_WIDTH + "\r" if terminal else "", end="", flush=True)
            return
        if PROGRESS_LINE.match(line):
            self._text = line.strip()
        now = time.monotonic()
        minutes, seconds = divmod(int(now - self._start), 60)
        text = f"  {minutes}:{seconds:02d}  {self._text}"
        if terminal:
            print("\r" + text[:STATUS_WIDTH].ljust(STATUS_WIDTH), end="", flush=True)
        elif now >= self._next_report:
            print(text[:STATUS_WIDTH], flush=True)
            self._next_report = now + PLAIN_REPORT_SECONDS
