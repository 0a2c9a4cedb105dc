"""The command: what it prints and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.published import writing
from scripts.prepare_dataset import main
from tests import preparation_miniatures as mini
from util.errors import EXIT_INTERRUPTED


def own_pairs(tmp_path: Path) -> Path:
    files = {f"{s}/{n}.png": m(str(n)) for n in range(8) for s, m in (("rain", mini.rainy), ("clean", mini.picture))}
    return mini.as_folder(tmp_path / "mine", files)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["folder-pairs", "--source", str(own_pairs(tmp_path)), "--out", str(tmp_path / "out"), "--test", "2"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "3 trainA, 3 trainB, 2 testA, 2 testB" in first
    assert "sha256 of the file list: " in first
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "nothing to do" in again
    assert again.splitlines()[-1] == first.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rain100l", "--rainy_half", "left"], "--rainy_half: is for rain800 only"),
        (["rain100l", "--full"], "--full: rain100l is always used whole"),
        (["rain100l", "--val", "1.5"], "--val 1.5"),
        (["rain10l"], "dataset rain10l: is not known (did you mean 'rain100l'?)"),
        (["rain100l"], "nothing of Rain100L is there"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    where = ["--source", str(own_pairs(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, *where]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_stopping_it_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.Stage, "note", interrupt)
    command = ["folder-pairs", "--source", str(own_pairs(tmp_path)), "--out", str(tmp_path / "out")]
    assert main(command) == EXIT_INTERRUPTED
    assert "the same command continues from here" in capsys.readouterr().err
