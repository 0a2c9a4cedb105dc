"""Check the code with ruff, mypy and pytest, in an environment made for it.

Makes or reuses .venv in this checkout and installs requirements-dev.txt there (several GB, once); the checks
themselves download nothing and need no GPU. All of them run even if one fails; the exit code is 0 if all passed.
Arguments after -- go to pytest:  python scripts/run_tests.py -- -k rain -x
Tests run in up to four processes, one for each CPU; -- -n 0 runs them in one, which -s and --pdb need.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from scripts import _bootstrap
from util.command_line import CommandLine
from util.errors import entry_point

EXIT_FAILED = 1
IN_PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]  # a process may take 2 GB


def checks(heavy: bool, pytest_arguments: Sequence[str]) -> dict[str, list[str]]:
    """The checks by name, as arguments for Python."""
    everything = ["-m", ""] if heavy else []
    return {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "mypy": ["-m", "mypy"],
        "pytest": ["-m", "pytest", "-q", *IN_PARALLEL, *everything, *pytest_arguments],
    }


def run_checks(python: Path, commands: dict[str, list[str]]) -> bool:
    """Run each, print a summary with times, return whether all passed."""
    summary = []
    for name, arguments in commands.items():
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        code = _bootstrap.run(python, arguments)
        outcome = "passed" if code == 0 else f"FAILED (exit code {code})"
        summary.append((name, outcome, time.monotonic() - start))
    print("\n== summary")
    for name, outcome, seconds in summary:
        print(f"{name:<12}{seconds:7.1f} s  {outcome}")
    return all(outcome == "passed" for _, outcome, _ in summary)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, prepare the environment, run the checks."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    pytest_arguments: list[str] = []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, pytest_arguments = arguments[:split], arguments[split + 1 :]
    parser = CommandLine(
        description=__doc__,
        usage="%(prog)s [-h] [--heavy] [--verbose] [-- pytest arguments]",
    )
    parser.add_argument("--heavy", action="store_true", help="also run the tests marked heavy, which take minutes")
    parser.add_argument("--verbose", action="store_true", help="show all of pip's output")
    args = parser.parse_args(arguments)
    python = _bootstrap.ensure("requirements-dev.txt", verbose=args.verbose)
    return 0 if run_checks(python, checks(args.heavy, pytest_arguments)) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
