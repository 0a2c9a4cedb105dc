"""Several runs on one page: aligned by name, compared only where they are comparable, images where they belong."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from scripts.compare import main
from util.errors import UserError
from util.names import SHIPPED, find_results
from util.pages.comparison import differing_parts, load_runs
from util.pages.manifest import Column, MetricColumn, ResultManifest, Row, load_manifest
from util.pages.result_page import write_result_page

COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "ground truth"))
SHADES = {"real_A": 10, "fake_B": 20, "real_B": 30}


def write_run(
    folder: Path,
    psnrs: dict[str, float],
    *,
    protocol: str = "luma",
    shades: dict[str, int] = SHADES,
    measured: bool = True,
    heading: str = "PSNR (Y)",
) -> Path:
    """A result folder with the given names and their PSNR; the input's is always 20."""
    rows = []
    for name, psnr in psnrs.items():
        images = {label: f"images/{label}/{name}.png" for label in SHADES}
        for label, path in images.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (shades[label],) * 3).save(folder / path)
        scores = {"real_A": {"psnr": 20.0}, "fake_B": {"psnr": psnr}} if measured else {}
        rows.append(Row(name, images, scores))
    metrics = (MetricColumn("psnr", heading, protocol, "dB"),) if measured else ()
    write_result_page(folder, ResultManifest(f"{folder.parent.name}: test", COLUMNS, tuple(rows), metrics=metrics))
    return folder


def two_runs(root: Path) -> list[str]:
    first = write_run(root / "results" / "cut" / "test_latest", {"a": 24.0, "b": 26.0})
    second = write_run(root / "results" / "cclgan" / "test_latest", {"a": 30.0, "b": 25.0})
    return [str(first.parent), str(second)]


def compare(root: Path, *arguments: str) -> ResultManifest:
    out = root / "results" / "comparison"
    assert main([*arguments, "--out", str(out)]) == 0
    return load_manifest(out / "manifest.json")


def test_runs_are_aligned_by_name_with_input_and_target_once(tmp_path: Path) -> None:
    manifest = compare(tmp_path, *two_runs(tmp_path))
    assert [column.heading for column in manifest.columns] == ["rainy input", "cut", "cclgan", "ground truth"]
    assert [row.name for row in manifest.rows] == ["a", "b"]
    assert manifest.rows[0].images == {
        "real_A": "../cut/test_latest/images/real_A/a.png",
        "fake_B.1": "../cut/test_latest/images/fake_B/a.png",
        "real_B": "../cut/test_latest/images/real_B/a.png",
        "fake_B.2": "../cclgan/test_latest/images/fake_B/a.png",
    }
    assert manifest.rows[0].scores == {
        "real_A": {"psnr": 20.0},
        "fake_B.1": {"psnr": 24.0},
        "fake_B.2": {"psnr": 30.0},
    }


def test_the_console_shows_the_means_and_their_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(tmp_path, *two_runs(tmp_path))
    output = capsys.readouterr().out
    assert [line.split() for line in output.splitlines()[1:4]] == [
        ["rainy", "input", "20.00"],
        ["cut", "25.00"],
        ["cclgan", "27.50"],
    ]
    assert "luma" in output and "compared 2 of 2 images of 2 runs" in output


def test_a_copied_comparison_holds_all_its_images(tmp_path: Path) -> None:
    manifest = compare(tmp_path, *two_runs(tmp_path), "--copy", "--names", "x", "y")
    out = tmp_path / "results" / "comparison"
    assert not manifest.reaches_out
    for row in manifest.rows:
        assert len(row.images) == 4 and all((out / path).is_file() for path in row.images.values())
    assert [column.heading for column in manifest.columns[1:3]] == ["x", "y"]


def test_copying_takes_nothing_but_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = two_runs(tmp_path)
    (Path(runs[1]) / "images" / "fake_B" / "a.png").write_text("a secret", encoding="utf-8")
    assert main([*runs, "--copy", "--out", str(tmp_path / "out")]) == 2
    assert "a.png" in capsys.readouterr().err
    assert "a secret" not in [p.read_text("latin-1") for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_an_image_that_a_run_lacks_is_marked_and_does_not_count(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0, "y": 99.0})
    second = write_run(tmp_path / "b" / "test", {"x": 25.0})
    manifest = compare(tmp_path, str(first), str(second))
    assert [row.excluded for row in manifest.rows] == ["", "not in b"]
    assert any("not in b" in note and "(y)" in note for note in manifest.notes)
    html = (tmp_path / "results" / "comparison" / "index.html").read_text(encoding="utf-8")
    assert ">24.00<" in html and ">25.00<" in html


@pytest.mark.parametrize(("label", "words"), [("real_A", "input"), ("real_B", "ground truth")])
def test_other_pictures_under_the_same_name_do_not_count(tmp_path: Path, label: str, words: str) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0, "y": 25.0})
    second = write_run(tmp_path / "b" / "test", {"x": 24.0, "y": 25.0})
    Image.new("RGB", (6, 4), (11, 10, 10)).save(second / "images" / label / "y.png")
    manifest = compare(tmp_path, str(first), str(second))
    assert [row.excluded for row in manifest.rows] == ["", f"another {words} in b"]


def test_the_same_pixels_in_another_file_are_the_same_picture(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0})
    second = write_run(tmp_path / "b" / "test", {"x": 24.0})
    Image.new("RGB", (6, 4), (10, 10, 10)).save(second / "images" / "real_A" / "x.png", compress_level=0)
    assert compare(tmp_path, str(first), str(second)).rows[0].excluded == ""


def test_differing_protocols_are_refused_unless_only_pictures_are_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0}, protocol="luma")
    second = write_run(tmp_path / "b" / "test", {"x": 24.0}, protocol="RGB")
    assert main([str(first), str(second), "--out", str(tmp_path / "out")]) == 2
    assert "'RGB'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    pictures = compare(tmp_path, str(first), str(second), "--no_metrics")
    assert pictures.metrics == () and pictures.rows[0].scores == {}


def test_a_metric_that_was_called_otherwise_before_is_the_same_under_one_protocol(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0}, heading="PSNR (Y, MATLAB)")
    second = write_run(tmp_path / "b" / "test", {"x": 24.0}, heading="PSNR (Y-MATLAB)")
    assert [metric.heading for metric in compare(tmp_path, str(first), str(second)).metrics] == ["PSNR (Y, MATLAB)"]


def test_runs_without_ground_truth_are_compared_by_their_pictures(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0}, measured=False)
    second = write_run(tmp_path / "b" / "test", {"x": 24.0}, measured=False)
    manifest = compare(tmp_path, str(first), str(second))
    assert manifest.metrics == () and manifest.rows[0].excluded == ""


def test_runs_of_other_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "a" / "test", {"x": 24.0})
    second = write_run(tmp_path / "b" / "test", {"y": 24.0})
    assert main([str(first), str(second), "--out", str(tmp_path / "out")]) == 2
    assert "no image in common" in capsys.readouterr().err


def test_pages_of_runs_are_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = two_runs(tmp_path)
    other = write_run(tmp_path / "other", {"a": 1.0})
    for place in (runs[1], str(other)):
        before = (Path(place) / "index.html").read_bytes()
        assert main([*runs, "--out", place]) == 2
        assert "choose" in capsys.readouterr().err
        assert (Path(place) / "index.html").read_bytes() == before


def test_a_comparison_is_replaced_but_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = two_runs(tmp_path)
    compare(tmp_path, *runs)
    compare(tmp_path, *runs)
    out = tmp_path / "results" / "comparison"
    assert main([runs[0], str(out), "--out", str(tmp_path / "more")]) == 2
    assert "is a comparison itself" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--names", "a"], ["--names", "a", "a"], ["--names", "a", "b", "c"]])
def test_names_are_one_for_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    assert main([*two_runs(tmp_path), *wrong, "--out", str(tmp_path / "out")]) == 2
    assert "--names" in capsys.readouterr().err


def test_one_run_or_twice_the_same_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = two_runs(tmp_path)[0]
    for runs in ([run], [run, run]):
        assert main([*runs, "--out", str(tmp_path / "out")]) == 2
    assert "named twice" in capsys.readouterr().err


def test_a_run_is_found_by_its_folder_its_page_or_the_folder_above(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run" / "test_latest", {"x": 1.0})
    for named in (folder, folder / "index.html", folder / "manifest.json", folder.parent):
        assert find_results(named) == folder
    with pytest.raises(UserError, match="no such folder"):
        find_results(tmp_path / "gone")
    with pytest.raises(UserError, match=r"no manifest\.json"):
        load_runs([tmp_path, folder])


def test_of_several_tests_the_latest_networks_is_taken_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    latest, fifth, tenth = (write_run(tmp_path / "run" / name, {"x": 1.0}) for name in ("test_latest", "test_5", "x"))
    assert find_results(tmp_path / "run") == latest
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path / 'run'} holds 3 tests; test_latest is taken"
    shutil.rmtree(latest)
    with pytest.raises(UserError, match="several tests") as caught:
        find_results(tmp_path / "run")
    assert str(fifth) in str(caught.value) and str(tenth) in str(caught.value)


def test_results_are_found_by_the_name_the_folder_and_the_network_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("results") / "rain" / "test_latest", {"x": 1.0})
    write_run(Path("results") / "derain" / "test_latest", {"x": 1.0})
    run = Path("checkpoints") / "rain"
    run.mkdir(parents=True)
    (run / "options.yaml").touch()
    (run / "latest_net_G.pth").touch()
    for word in ("rain", run, run / "latest_net_G.pth"):
        assert find_results(word) == Path("results/rain/test_latest")
    for word in ("derain", "general", SHIPPED):
        assert find_results(word) == Path("results/derain/test_latest")
    with pytest.raises(UserError, match=r"did you mean 'rain'"):
        find_results("rian")


def test_a_damaged_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = two_runs(tmp_path)
    manifest = Path(runs[1]) / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["rows"][0]["images"]["fake_B"] = "../../../secret.png"
    manifest.write_text(json.dumps(data), encoding="utf-8")
    assert main([*runs, "--out", str(tmp_path / "out")]) == 2
    assert "secret.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("results/a/test_latest", "results/b/test_latest"), ["a", "b"]),
        (("results/a/test_1", "results/a/test_2"), ["test_1", "test_2"]),
        (("x/a/test_1", "x/b/test_1", "x/a/test_2"), ["a/test_1", "b/test_1", "a/test_2"]),
    ],
)
def test_runs_are_called_by_what_differs_in_their_paths(folders: tuple[str, ...], names: list[str]) -> None:
    assert differing_parts([Path(folder) for folder in folders]) == names
