"""Tables say what the saved files contain, under the protocol they name."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from util.errors import UserError
from util.evaluation import Evaluation, Result, Row, Scores, evaluate, summary_table, write_metrics
from util.metrics import PROTOCOLS

Y = PROTOCOLS["y"]
COLUMNS = ["input_psnr", "input_ssim", "input_psnr_rgb", "input_ciede2000", "psnr", "ssim", "psnr_rgb", "ciede2000"]


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_row(folder: Path, name: str, seed: int, size: tuple[int, int] = (15, 18)) -> Row:
    """A random target, an output near it and an input far from it, saved as PNG files."""
    rng = np.random.default_rng(seed)
    target = rng.integers(60, 196, (*size, 3))
    far, near = ((target + rng.integers(-noise, noise + 1, target.shape)).astype(np.uint8) for noise in (60, 9))
    files = {"rainy": far, "derained": near, "target": target.astype(np.uint8)}
    paths = [save(folder / kind / f"{name}.png", array) for kind, array in files.items()]
    return Row(name, *paths)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return [make_row(tmp_path, "a", seed=1), make_row(tmp_path, 'street, "wet"/é', seed=2, size=(21, 13))]


def strict_json(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_saved_files(rows: list[Row]) -> None:
    result = evaluate(rows, PROTOCOLS["rgb"]).results[1]
    target = np.asarray(Image.open(rows[1].target))
    for scores, path in ((result.input, rows[1].input), (result.output, rows[1].output)):
        image = np.asarray(Image.open(path))
        similarity = structural_similarity(
            target, image, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert scores.ssim == pytest.approx(similarity)
        assert scores.psnr == scores.psnr_rgb == pytest.approx(peak_signal_noise_ratio(target, image))


def test_the_protocol_changes_psnr_but_not_its_companions(rows: list[Row]) -> None:
    luma, rgb = (evaluate(rows[:1], PROTOCOLS[name]).results[0].output for name in ("y", "rgb"))
    assert luma.psnr != rgb.psnr
    assert luma.ssim != rgb.ssim
    assert (luma.psnr_rgb, luma.ciede2000) == (rgb.psnr_rgb, rgb.ciede2000)


def test_derained_is_not_confused_with_its_input(rows: list[Row]) -> None:
    for result in evaluate(rows, Y).results:
        assert result.output.psnr > result.input.psnr + 10
        assert result.output.ssim > result.input.ssim
        assert result.output.ciede2000 < result.input.ciede2000


def test_results_keep_the_order_and_the_mean_is_over_images(tmp_path: Path) -> None:
    rows = [make_row(tmp_path, str(seed), seed, size=(11 + 5 * seed, 12)) for seed in range(6)]
    evaluation = evaluate(rows, Y)
    assert [result.name for result in evaluation.results] == [row.name for row in rows]
    expected = np.mean([astuple(result.output) for result in evaluation.results], axis=0)
    assert astuple(evaluation.mean().output) == pytest.approx(tuple(expected))


def test_csv_has_a_row_per_image_and_the_mean_in_full_precision(tmp_path: Path, rows: list[Row]) -> None:
    evaluation = evaluate(rows, Y)
    write_metrics(tmp_path / "out", evaluation)
    lines = read_csv(tmp_path / "out" / "metrics.csv")
    assert list(lines[0]) == ["name", *COLUMNS]
    assert [line["name"] for line in lines] == [*(row.name for row in rows), "mean"]
    for line, result in zip(lines, (*evaluation.results, evaluation.mean()), strict=True):
        assert [float(line[column]) for column in COLUMNS] == [*astuple(result.input), *astuple(result.output)]


def test_json_carries_the_protocol_and_the_same_numbers(tmp_path: Path, rows: list[Row]) -> None:
    evaluation = evaluate(rows, Y)
    write_metrics(tmp_path, evaluation)
    content = strict_json(tmp_path / "metrics.json")
    assert (content["protocol"], content["description"], content["count"]) == ("y", Y.description, 2)
    assert content["versions"]["numpy"] == np.__version__
    assert [image["name"] for image in content["images"]] == [row.name for row in rows]
    assert content["images"][1]["input_ciede2000"] == evaluation.results[1].input.ciede2000
    assert content["mean"]["psnr"] == evaluation.mean().output.psnr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["metrics.csv", "metrics.json"]


def test_json_summarises_every_column(tmp_path: Path) -> None:
    write_metrics(tmp_path, evaluate([make_row(tmp_path, str(seed), seed) for seed in range(7)], Y))
    content = strict_json(tmp_path / "metrics.json")
    for column in COLUMNS:
        values = {image["name"]: image[column] for image in content["images"]}
        assert content["std"][column] == pytest.approx(np.std(list(values.values()), ddof=1))
        assert content["median"][column] == pytest.approx(np.median(list(values.values())))
        ranked = sorted(values, key=values.__getitem__, reverse="ciede2000" in column)
        assert [worst["name"] for worst in content["worst"][column]] == ranked[:5]
    assert content["worst"]["psnr"][0]["value"] == min(image["psnr"] for image in content["images"])


def test_json_says_what_the_protocol_resized(tmp_path: Path, rows: list[Row]) -> None:
    small = replace(PROTOCOLS["raincityscapes"], size=(18, 15))
    write_metrics(tmp_path, evaluate(rows, small))
    assert strict_json(tmp_path / "metrics.json")["resized"] == {"13x21": 1}


def test_an_image_equal_to_its_target_keeps_the_files_valid(
    tmp_path: Path, rows: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    same = Row("same", rows[0].input, rows[0].target, rows[0].target)
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate([same, rows[1]], Y)
    write_metrics(tmp_path, evaluation)
    content, lines = strict_json(tmp_path / "metrics.json"), read_csv(tmp_path / "metrics.csv")
    assert content["images"][0]["psnr"] is content["mean"]["psnr"] is None
    assert content["mean"]["input_psnr"] == pytest.approx(evaluation.mean().input.psnr)
    assert float(lines[0]["psnr"]) == float(lines[-1]["psnr"]) == math.inf
    assert "same: equals its target" in caplog.text


def test_names_that_are_not_unicode_can_be_written(tmp_path: Path) -> None:
    scores = Scores(30.0, 0.9, 29.0, 2.0)
    write_metrics(tmp_path, Evaluation(Y, (Result("rain\udcff", scores, scores),)))
    assert strict_json(tmp_path / "metrics.json")["images"][0]["name"] == "rain\udcff"


def test_the_table_names_both_rows_and_the_protocol() -> None:
    before, after = Scores(13.138, 0.45126, 13.02, 21.3), Scores(math.inf, 1.0, 29.0, 2.346)
    table = summary_table(Evaluation(Y, (Result("a", before, after),)))
    lines = table.splitlines()
    assert lines[0].split("  ")[-1].strip() == "CIEDE2000"
    assert lines[1].split() == ["rainy", "input", "13.14", "0.4513", "13.02", "21.30"]
    assert lines[2].split() == ["derained", "inf", "1.0000", "29.00", "2.35"]
    assert Y.description in " ".join(lines[3:])
    assert "Mean over 1 image." in table
    assert table.isascii()


def test_the_table_uses_the_headings_given_and_stays_aligned() -> None:
    scores = Scores(13.138, 0.45126, 13.02, 21.3)
    table = summary_table(Evaluation(Y, (Result("a", scores, scores),)), "input", "photo with synthetic rain")
    lines = table.splitlines()
    assert lines[1].startswith("input ") and lines[2].startswith("photo with synthetic rain ")
    assert len({len(line) for line in lines[:3]}) == 1
    assert "derain" not in table and "rainy" not in table


def test_another_size_than_the_targets_names_both_files(tmp_path: Path, rows: list[Row]) -> None:
    other = save(tmp_path / "other.png", np.zeros((15, 17, 3), np.uint8))
    with pytest.raises(UserError, match=r"other\.png: is 17x15.*a\.png is 18x15"):
        evaluate([Row("a", rows[0].input, other, rows[0].target)], Y)


def test_an_image_smaller_than_the_window_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.png: is 30x10.*11x11"):
        evaluate([make_row(tmp_path, "tiny", 0, size=(10, 30))], Y)


def test_a_missing_output_is_named(tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(UserError, match=r"gone\.png"):
        evaluate([rows[1], Row("a", rows[0].input, tmp_path / "gone.png", rows[0].target)], Y)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(UserError, match="no image with a target"):
        evaluate([], Y)
