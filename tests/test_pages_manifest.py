"""What a result page is made of: the manifest, which is the same after a round trip."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from util.errors import UserError
from util.pages.manifest import Column, MetricColumn, ResultManifest, Row, load_manifest, save_manifest

COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "rain-free photo", False))
PSNR = MetricColumn("psnr_y", "PSNR (Y)", "BT.601 limited-range luma", "dB")
DELTA = MetricColumn("ciede2000", "CIEDE2000", "mean over pixels", higher_is_better=False)


def test_the_manifest_reads_back_as_it_was(tmp_path: Path) -> None:
    scores = {"fake_B": {"psnr_y": math.inf}, "real_A": {"psnr_y": 20.5}}
    rows = (
        Row("<雨> \"'", {"real_A": "../a b.png"}, scores, {"real_A": (3, 2)}, {"real_A": "../a b.tif"}, excluded="why"),
        Row("b", {}),
    )
    manifest = ResultManifest(
        "title", COLUMNS, rows, "sub", ("one", "two"), (PSNR, DELTA), "real_A", "real_B", "fake_B", True, ("a", "b")
    )
    assert load_manifest(save_manifest(tmp_path, manifest)) == manifest


def test_a_manifest_of_version_1_is_read(tmp_path: Path) -> None:
    manifest = save_manifest(tmp_path, ResultManifest("run", COLUMNS, (), metrics=(PSNR,)))
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["version"] = 1
    data["rows"] = [{"name": "a", "images": {}, "metrics": {"psnr_y": {"output": "inf", "input": 20.5}}}]
    for later in ("target", "reaches_out", "runs"):
        del data[later]
    manifest.write_text(json.dumps(data), encoding="utf-8")
    (row,) = load_manifest(manifest).rows
    assert row == Row("a", {}, {"fake_B": {"psnr_y": math.inf}, "real_A": {"psnr_y": 20.5}})


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_manifest(path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "a/../../b.png", ""])
def test_images_outside_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="inside"):
        ResultManifest("run", COLUMNS, (Row("a", {"real_A": path}),))


@pytest.mark.parametrize("path", ["/etc/secret.png", "//server/a.png", ""])
def test_a_page_that_reaches_out_still_names_no_absolute_place(path: str) -> None:
    assert ResultManifest("run", COLUMNS, (Row("a", {"real_A": "../a.png"}),), reaches_out=True)
    with pytest.raises(ValueError, match="relative"):
        ResultManifest("run", COLUMNS, (Row("a", {"real_A": path}),), reaches_out=True)


def test_unknown_columns_and_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="fake_C"):
        ResultManifest("run", COLUMNS, (Row("a", {"fake_C": "a.png"}),))
    with pytest.raises(ValueError, match="psnr_y"):
        ResultManifest("run", COLUMNS, (Row("a", {}, {"fake_B": {"psnr_y": 1.0}}),))
    with pytest.raises(ValueError, match="same label"):
        ResultManifest("run", (COLUMNS[0], COLUMNS[0]), ())
