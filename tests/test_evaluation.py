"""Tables say what the saved files contain, under the protocol they name."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from util.errors import UserError
from util.metrics.evaluate import Evaluation, Item, Score, evaluate
from util.metrics.metric import DEFAULT_METRICS, Scorer, shown_metrics
from util.metrics.protocols import PROTOCOLS, Protocol
from util.metrics.report import means_table, write_metrics
from util.tables import as_text

Y = PROTOCOLS["y"]
KEYS = ["psnr", "ssim", "psnr_rgb", "ciede2000"]
COLUMNS = [*(f"input_{key}" for key in KEYS), *KEYS]
WORDS = {"input": "rainy input", "output": "derained"}


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_row(folder: Path, name: str, seed: int, size: tuple[int, int] = (15, 18)) -> Item:
    """A random target, an output near it and an input far from it, saved as PNG files."""
    rng = np.random.default_rng(seed)
    target = rng.integers(60, 196, (*size, 3))
    far, near = ((target + rng.integers(-noise, noise + 1, target.shape)).astype(np.uint8) for noise in (60, 9))
    files = {"rainy": far, "derained": near, "target": target.astype(np.uint8)}
    rainy, derained, clean = (save(folder / kind / f"{name}.png", array) for kind, array in files.items())
    return Item(name, clean, {"input": rainy, "output": derained})


def scored(rows: list[Item], protocol: Protocol = Y) -> Evaluation:
    return evaluate(rows, Scorer(DEFAULT_METRICS, protocol))


def made_of(name: str, before: list[float], after: list[float]) -> Evaluation:
    """An evaluation of one image with these scores."""
    item = Item(name, None, {"input": Path("in.png"), "output": Path("out.png")})
    scores = {
        "input": Score(dict(zip(KEYS, before, strict=True))),
        "output": Score(dict(zip(KEYS, after, strict=True))),
    }
    return Evaluation(Y, DEFAULT_METRICS, (item,), (scores,))


def table_of(evaluation: Evaluation, words: dict[str, str]) -> str:
    return as_text(means_table(evaluation, metrics=shown_metrics(evaluation.protocol), words=words))


@pytest.fixture
def rows(tmp_path: Path) -> list[Item]:
    return [make_row(tmp_path, "a", seed=1), make_row(tmp_path, 'street, "wet"/é', seed=2, size=(21, 13))]


def strict_json(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_saved_files(rows: list[Item]) -> None:
    evaluation = scored(rows, PROTOCOLS["rgb"])
    assert rows[1].target is not None
    target = np.asarray(Image.open(rows[1].target))
    for label in ("input", "output"):
        scores, image = evaluation.values(label)[1], np.asarray(Image.open(rows[1].images[label]))
        similarity = structural_similarity(
            target, image, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert scores["ssim"] == pytest.approx(similarity)
        assert scores["psnr"] == scores["psnr_rgb"] == pytest.approx(peak_signal_noise_ratio(target, image))


def test_the_protocol_changes_psnr_but_not_its_companions(rows: list[Item]) -> None:
    luma, rgb = (scored(rows[:1], PROTOCOLS[name]).values("output")[0] for name in ("y", "rgb"))
    assert luma["psnr"] != rgb["psnr"]
    assert luma["ssim"] != rgb["ssim"]
    assert (luma["psnr_rgb"], luma["ciede2000"]) == (rgb["psnr_rgb"], rgb["ciede2000"])


def test_derained_is_not_confused_with_its_input(rows: list[Item]) -> None:
    evaluation = scored(rows)
    for before, after in zip(evaluation.values("input"), evaluation.values("output"), strict=True):
        assert after["psnr"] > before["psnr"] + 10
        assert after["ssim"] > before["ssim"]
        assert after["ciede2000"] < before["ciede2000"]


def test_results_keep_the_order_and_the_mean_is_over_images(tmp_path: Path) -> None:
    rows = [make_row(tmp_path, str(seed), seed, size=(11 + 5 * seed, 12)) for seed in range(6)]
    evaluation = scored(rows)
    alone = [scored([row]).values("output")[0] for row in rows]
    assert evaluation.values("output") == alone
    summaries = evaluation.summaries("output")
    for key in KEYS:
        assert summaries[key].mean == pytest.approx(np.mean([values[key] for values in alone]))


def test_csv_has_a_row_per_image_and_the_mean_in_full_precision(tmp_path: Path, rows: list[Item]) -> None:
    evaluation = scored(rows)
    write_metrics(tmp_path / "out", evaluation)
    lines = read_csv(tmp_path / "out" / "metrics.csv")
    assert list(lines[0]) == ["name", *COLUMNS]
    assert [line["name"] for line in lines] == [*(row.name for row in rows), "mean"]
    for line, before, after in zip(lines, evaluation.values("input"), evaluation.values("output"), strict=False):
        assert [float(line[column]) for column in COLUMNS] == [*before.values(), *after.values()]
    means = [summary.mean for label in ("input", "output") for summary in evaluation.summaries(label).values()]
    assert [float(lines[-1][column]) for column in COLUMNS] == means


def test_json_carries_the_protocol_and_the_same_numbers(tmp_path: Path, rows: list[Item]) -> None:
    evaluation = scored(rows)
    write_metrics(tmp_path, evaluation)
    content = strict_json(tmp_path / "metrics.json")
    assert (content["protocol"], content["description"], content["count"]) == ("y", Y.description, 2)
    assert content["versions"]["numpy"] == np.__version__
    assert [image["name"] for image in content["images"]] == [row.name for row in rows]
    assert content["images"][1]["input_ciede2000"] == evaluation.values("input")[1]["ciede2000"]
    assert content["mean"]["psnr"] == evaluation.summaries("output")["psnr"].mean
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["metrics.csv", "metrics.json"]


def test_json_summarizes_every_column(tmp_path: Path) -> None:
    write_metrics(tmp_path, scored([make_row(tmp_path, str(seed), seed) for seed in range(7)]))
    content = strict_json(tmp_path / "metrics.json")
    for column in COLUMNS:
        values = {image["name"]: image[column] for image in content["images"]}
        assert content["std"][column] == pytest.approx(np.std(list(values.values()), ddof=1))
        assert content["median"][column] == pytest.approx(np.median(list(values.values())))
        ranked = sorted(values, key=values.__getitem__, reverse="ciede2000" in column)
        assert [worst["name"] for worst in content["worst"][column]] == ranked[:5]
    assert content["worst"]["psnr"][0]["value"] == min(image["psnr"] for image in content["images"])


def test_json_says_what_the_protocol_resized(tmp_path: Path, rows: list[Item]) -> None:
    small = replace(PROTOCOLS["raincityscapes"], size=(18, 15))
    write_metrics(tmp_path, scored(rows, small))
    assert strict_json(tmp_path / "metrics.json")["resized"] == {"13x21": 1}


def test_an_image_equal_to_its_target_keeps_the_files_valid(
    tmp_path: Path, rows: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    assert rows[0].target is not None
    same = Item("same", rows[0].target, {"input": rows[0].images["input"], "output": rows[0].target})
    with caplog.at_level(logging.WARNING):
        evaluation = scored([same, rows[1]])
    write_metrics(tmp_path, evaluation)
    content, lines = strict_json(tmp_path / "metrics.json"), read_csv(tmp_path / "metrics.csv")
    assert content["images"][0]["psnr"] is content["mean"]["psnr"] is None
    assert content["mean"]["input_psnr"] == pytest.approx(evaluation.summaries("input")["psnr"].mean)
    assert float(lines[0]["psnr"]) == float(lines[-1]["psnr"]) == math.inf
    assert "output: same equals its target" in caplog.text


def test_names_that_are_not_unicode_can_be_written(tmp_path: Path) -> None:
    scores = [30.0, 0.9, 29.0, 2.0]
    write_metrics(tmp_path, made_of("rain\udcff", scores, scores))
    assert strict_json(tmp_path / "metrics.json")["images"][0]["name"] == "rain\udcff"


def test_the_table_names_both_rows_and_the_protocol() -> None:
    table = table_of(made_of("a", [13.138, 0.45126, 13.02, 21.3], [math.inf, 1.0, 29.0, 2.346]), WORDS)
    lines = table.splitlines()
    assert [head.strip() for head in lines[0].split("  ") if head] == [
        "PSNR (Y)",
        "SSIM (Y)",
        "PSNR (RGB)",
        "CIEDE2000",
    ]
    assert lines[1].split() == ["rainy", "input", "13.14", "0.4513", "13.02", "21.30"]
    assert lines[2].split() == ["derained", "inf", "1.0000", "29.00", "2.35"]
    assert Y.description in " ".join(lines[3:])
    assert "Mean over 1 image." in table
    assert table.isascii()


def test_the_table_uses_the_headings_given_and_stays_aligned() -> None:
    scores = [13.138, 0.45126, 13.02, 21.3]
    table = table_of(made_of("a", scores, scores), {"input": "input", "output": "photo with synthetic rain"})
    lines = table.splitlines()
    assert lines[1].startswith("input ") and lines[2].startswith("photo with synthetic rain ")
    assert len({len(line) for line in lines[:3]}) == 1
    assert "derain" not in table and "rainy" not in table


def test_another_size_than_the_targets_names_both_files(tmp_path: Path, rows: list[Item]) -> None:
    other = save(tmp_path / "other.png", np.zeros((15, 17, 3), np.uint8))
    with pytest.raises(UserError, match=r"other\.png: is 17x15.*a\.png is 18x15"):
        scored([replace(rows[0], images={**rows[0].images, "output": other})])


def test_an_image_smaller_than_the_window_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.png: is 30x10.*11x11"):
        scored([make_row(tmp_path, "tiny", 0, size=(10, 30))])


def test_a_missing_output_is_named(tmp_path: Path, rows: list[Item]) -> None:
    with pytest.raises(UserError, match=r"gone\.png"):
        scored([rows[1], replace(rows[0], images={**rows[0].images, "output": tmp_path / "gone.png"})])


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(UserError, match="no image with a target"):
        scored([])


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        ("y", ["PSNR (Y)", "SSIM (Y)", "PSNR (RGB)", "CIEDE2000"]),
        ("rgb", ["PSNR (RGB)", "SSIM (RGB)", "CIEDE2000"]),
        ("spa", ["PSNR (SPA)", "SSIM (SPA)", "CIEDE2000"]),
        ("y-mprnet", ["PSNR (Y, MPRNet)", "SSIM (Y, MPRNet)", "PSNR (RGB)", "CIEDE2000"]),
        ("y-matlab", ["PSNR (Y, MATLAB)", "SSIM (Y, MATLAB)", "PSNR (RGB)", "CIEDE2000"]),
        ("raincityscapes", ["PSNR (RainCityscapes)", "SSIM (RainCityscapes)", "CIEDE2000"]),
    ],
)
def test_every_metric_has_one_name_and_no_two_have_the_same(protocol: str, names: list[str]) -> None:
    assert [metric.heading(PROTOCOLS[protocol]) for metric in shown_metrics(PROTOCOLS[protocol])] == names
