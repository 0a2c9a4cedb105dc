"""Sources that are of another data set, incomplete, or something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data.published import LAYOUTS, Request, prepare
from data.published.layouts import Expected, Rain100L
from data.published.splitting import SplitRule
from tests import preparation_miniatures as mini
from util.errors import UserError

PUBLISHED = {
    "raincityscapes": mini.raincityscapes(),
    "spa": mini.spa(),
    "rain100l": mini.rain100_authors(),
    "rain100h": mini.rain100_authors("Heavy"),
    "rain800": mini.rain800(),
    "rain1400": mini.rain1400(),
}


@pytest.mark.parametrize("asked", list(PUBLISHED))
@pytest.mark.parametrize("given", list(PUBLISHED))
def test_the_wrong_data_set_is_called_by_its_name(tmp_path: Path, asked: str, given: str) -> None:
    if asked == given:
        assert LAYOUTS[asked]().recognizes([]) is False
        return
    source = mini.as_folder(tmp_path / "downloads", PUBLISHED[given])
    with pytest.raises(UserError, match=f"is not {LAYOUTS[asked].title} but looks like {LAYOUTS[given].title}"):
        prepare(asked, LAYOUTS[asked](), [source], tmp_path / "out")


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_something_else_altogether(tmp_path: Path, name: str) -> None:
    source = mini.as_folder(tmp_path / "holiday", {"beach.png": mini.picture("beach"), "notes.txt": b"-"})
    with pytest.raises(UserError, match=f"nothing of {LAYOUTS[name].title} is there.*holiday/beach.png"):
        prepare(name, LAYOUTS[name](), [source], tmp_path / "out")


@pytest.mark.parametrize("name", ["rain100l", "rain800", "rain1400", "spa"])
def test_wrong_counts_are_named_and_can_be_allowed(tmp_path: Path, name: str) -> None:
    source = mini.as_folder(tmp_path / "downloads", PUBLISHED[name])
    with pytest.raises(UserError, match=r"training pairs instead of \d+.*--allow_incomplete"):
        prepare(name, LAYOUTS[name](), [source], tmp_path / "out")
    layout = replace(LAYOUTS[name](), rule=SplitRule())
    prepared = prepare(name, layout, [source], tmp_path / "out", Request(allow_incomplete=True))
    assert any("training pairs instead of" in note for note in prepared.notes)


def test_a_test_set_alone_can_be_allowed(tmp_path: Path) -> None:
    files = {f"Rain100L/{kind}/{n}.png": make(f"t{n}") for n in range(1, 4)
             for kind, make in (("input", mini.rainy), ("target", mini.picture))}  # fmt: skip
    source = mini.as_folder(tmp_path / "Rain13K", files)
    with pytest.raises(UserError, match="0 training pairs instead of 6"):
        prepare("rain100l", Rain100L(expected=Expected(train=(6,), test=(3,))), [source], tmp_path / "out")
    out = tmp_path / "out"
    prepare(
        "rain100l", Rain100L(expected=Expected(train=(6,), test=(3,))), [source], out, Request(allow_incomplete=True)
    )
    assert sorted(path.name for path in out.iterdir()) == ["dataset.yaml", "files.sha256", "testA", "testB"]
    assert (out / "testA" / "0003.png").read_bytes() == mini.rainy("t3")
