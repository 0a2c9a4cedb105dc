"""How a program ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from util.errors import UserError, entry_point

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (130, 130)])
def test_what_main_returns_is_the_exit_code(returned: int | None, code: int) -> None:
    assert entry_point(lambda argv: returned)() == code


def test_a_users_mistake_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str] | None) -> None:
        raise UserError("--lr x: is not a number.")

    assert entry_point(main)([]) == 2
    assert capsys.readouterr().err == "error: --lr x: is not a number.\n"


def test_our_own_bug_keeps_its_traceback() -> None:
    def main(argv: Sequence[str] | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        entry_point(main)([])


def test_a_reader_that_has_had_enough_is_no_traceback() -> None:
    program = (
        "import sys\nfrom util.errors import entry_point\n"
        "def main(argv):\n    for i in range(100000):\n        print('line', i)\n"
        "sys.exit(entry_point(main)())"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


WORK = """
import logging, sys
from pathlib import Path
from tqdm import tqdm
from util.errors import entry_point
from util.command_line import set_up_logging

def main(argv):
    set_up_logging()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in tqdm(range(3), mininterval=0):
        print("line", flush=True)
        print("line", file=sys.stderr)
        logging.getLogger("util").info("line")
    Path(sys.argv[1]).touch()
    print("results")

sys.exit(entry_point(main)())
"""


@pytest.mark.skipif(os.name == "nt", reason="needs pseudo-terminals")
@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_a_console_that_goes_away_does_not_end_the_work(tmp_path: Path, kind: str) -> None:
    ours, theirs = os.openpty() if kind == "terminal" else os.pipe()
    command = [sys.executable, "-c", WORK, str(tmp_path / "done")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert os.read(ours, 5) == b"ready"
        os.close(ours)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(60) == 0
    assert (tmp_path / "done").is_file()
