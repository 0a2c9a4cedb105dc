"""How a program ends."""

from __future__ import annotations

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
