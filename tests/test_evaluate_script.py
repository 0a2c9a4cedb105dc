"""evaluate.py as users call it: numbers, files and sentences."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from scripts import evaluate

SIZE = (19, 23)
NAMES = [f"street/{number}" for number in range(7)]
RAIN100L = "DERAIN_RAIN100L"


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven targets, rainy inputs and two results, the second of which is green."""
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        target = rng.integers(60, 180, (*SIZE, 3))
        save(tmp_path / "gt" / f"{name}.png", target)
        save(tmp_path / "in" / f"{name}.png", target + rng.integers(0, 70, (*SIZE, 1)))
        save(tmp_path / "ours" / f"{name}.png", target + rng.integers(-5 - seed, 6 + seed, target.shape))
        save(tmp_path / "theirs" / f"{name}.bmp", target + np.array([-30, 19, -20]))
    return tmp_path


def run(root: Path, *flags: str, results: tuple[str, ...] = ("ours",), gt: bool = True) -> int:
    where = ["--results", *(str(root / name) for name in results), "--out", str(root / "out")]
    return evaluate.main([*where, *(["--gt", str(root / "gt")] if gt else []), *flags])


def content(root: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    return json.loads((root / "out" / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "out" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def refusal(root: Path, capsys: pytest.CaptureFixture[str], *flags: str, **how: object) -> str:
    """The sentence of a refused call."""
    capsys.readouterr()
    assert run(root, *flags, **how) == 2  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (root / "out").exists()
    return error


def test_values_are_scikit_images_and_numpys(root: Path) -> None:
    assert run(root, "--protocol", "y") == 0
    weights = np.array([65.481, 128.553, 24.966]) / 255
    for row in rows(root):
        output, target = read(root / "ours" / f"{row['name']}.png"), read(root / "gt" / f"{row['name']}.png")
        luma = [16 + image @ weights for image in (target, output)]
        similarity = structural_similarity(
            *luma, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / np.mean((luma[0] - luma[1]) ** 2)), abs=1e-6)
        assert float(row["ssim"]) == pytest.approx(similarity, abs=1e-6)
        assert float(row["psnr_rgb"]) == pytest.approx(peak_signal_noise_ratio(target, output), abs=1e-6)
        colors = deltaE_ciede2000(rgb2lab(target), rgb2lab(output)).mean()
        assert float(row["ciede2000"]) == pytest.approx(colors, abs=1e-6)


def test_limited_range_luma_is_1_322_db_above_full_range(root: Path) -> None:
    assert run(root, "--protocol", "y") == 0
    for row in rows(root):
        full = [read(root / side / f"{row['name']}.png") @ np.array([0.299, 0.587, 0.114]) for side in ("gt", "ours")]
        assert float(row["psnr"]) - peak_signal_noise_ratio(*full, data_range=255) == pytest.approx(1.322, abs=5e-4)


def test_the_rainy_input_is_the_first_row_of_every_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--input", str(root / "in"), results=("ours", "theirs")) == 0
    names = ["rainy input", "ours", "theirs"]
    console = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in console[1:4]] == names
    assert re.fullmatch(r" *PSNR \(Y\) +SSIM \(Y\) +PSNR \(RGB\) +CIEDE2000", console[0])
    for suffix, row in (("md", r"\| {} \|"), ("tex", r"{} &"), ("html", r">{}<"), ("csv", "{},")):
        text = (root / "out" / f"table.{suffix}").read_text(encoding="utf-8")
        places = [re.search(row.format(name), text) for name in names]
        assert all(places) and [p.start() for p in places if p] == sorted(p.start() for p in places if p)
        assert "limited-range luma" in text or suffix == "csv"


def test_the_files_say_what_they_hold(root: Path) -> None:
    assert run(root, "--input", str(root / "in"), "--protocol", "y-mprnet", "--labels", "mine") == 0
    found = content(root)
    assert (found["protocol"], found["count"]) == ("y-mprnet", 7)
    assert "rounded to 8 bits" in found["description"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["pairing"]["rule"] == "equal relative paths without extension"
    assert found["pairing"]["folders"]["mine"] == str(root / "ours")
    assert [each["label"] for each in found["results"]] == ["rainy input", "mine"]
    values = [image["psnr"] for image in found["results"][1]["images"]]
    assert found["results"][1]["mean"]["psnr"] == pytest.approx(np.mean(values))
    assert found["results"][1]["std"]["psnr"] == pytest.approx(np.std(values, ddof=1))
    assert found["results"][1]["median"]["psnr"] == pytest.approx(np.median(values))
    assert {row["protocol"] for row in rows(root)} == {"y-mprnet"}


@pytest.mark.parametrize(("metrics", "expected"), [
    ("psnr", ["psnr", "psnr_rgb", "ciede2000"]),
    ("ssim", ["ssim"]),
    ("ciede2000,psnr", ["ciede2000", "psnr", "psnr_rgb"]),
])  # fmt: skip
def test_luma_psnr_never_stands_alone(root: Path, metrics: str, expected: list[str]) -> None:
    assert run(root, "--metrics", metrics) == 0
    assert list(content(root)["metrics"]) == expected


def test_green_pictures_are_seen_beside_their_good_luma(root: Path) -> None:
    assert run(root, results=("theirs",)) == 0
    mean = content(root)["results"][0]["mean"]
    assert mean["psnr"] > 45 and mean["psnr_rgb"] < 21 and mean["ciede2000"] > 12


def test_numbers_do_not_depend_on_the_threads(root: Path) -> None:
    found = []
    for workers in ("1", "3"):
        assert run(root, "--workers", workers) == 0
        found.append((root / "out" / "metrics.csv").read_bytes())
    assert found[0] == found[1]


def test_our_own_results_need_nothing_else(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = root / "results" / "rcs" / "test_latest" / "images"
    for side, label in (("in", "real_A"), ("ours", "fake_B"), ("gt", "real_B")):
        images.mkdir(parents=True, exist_ok=True)
        (root / side).rename(images / label)
    assert run(root, results=("results/rcs/test_latest",), gt=False) == 0
    assert [each["label"] for each in content(root)["results"]] == ["rainy input", "rcs"]
    assert "worst PSNR (Y), rcs: street/" in capsys.readouterr().out


def test_sizes_that_differ_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(root / "ours" / "street" / "3.png", np.zeros((19, 24, 3)))
    assert re.search(r"ours.street.3\.png: is 24x19 pixels, but its target .*is 23x19", refusal(root, capsys))


def test_missing_images_are_refused_unless_told_and_then_stamped(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "ours" / "street" / "3.png").unlink()
    assert "'street/3'" in refusal(root, capsys)
    assert run(root, "--allow_missing") == 0
    assert content(root)["pairing"]["left_out"] == {"all results": ["street/3"]}
    assert content(root)["count"] == 6
    for suffix in ("md", "html", "tex"):
        assert "LEFT OUT" in (root / "out" / f"table.{suffix}").read_text(encoding="utf-8")
    said = capsys.readouterr()
    assert "LEFT OUT" in said.out and "'street/3'" in said.err


def test_raincityscapes_resizes_as_its_script_does_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 8, 3), dtype=np.uint8)).resize((2048, 1024)))
    save(tmp_path / "gt" / "lindau_000000_000019_leftImg8bit.png", clean)
    name = "lindau_000000_000019_rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_1"
    save(tmp_path / "ours" / f"{name}.png", clean[::4, ::4])
    assert run(tmp_path, "--protocol", "raincityscapes") == 0
    found = content(tmp_path)
    assert found["results"][0]["resized"] == {"512x256": 1}
    assert found["results"][0]["images"][0]["name"] == name
    assert 20 < found["results"][0]["mean"]["psnr"] < 60
    assert "1 of 512x256" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_an_image_equal_to_its_target_keeps_the_files_valid(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(root / "ours" / "street" / "3.png", read(root / "gt" / "street" / "3.png"))
    assert run(root) == 0
    result = content(root)["results"][0]
    assert result["images"][3]["psnr"] is result["mean"]["psnr"] is result["std"]["psnr"] is None
    assert math.isinf(float(rows(root)[3]["psnr"]))
    said = capsys.readouterr()
    assert "ours: street/3 equals its target" in said.err and re.search(r"ours +inf ", said.out)


@pytest.mark.parametrize(("flags", "message"), [
    (("--metrics", "psrn"), "no 'psrn' (did you mean 'psnr'?)"),
    (("--metrics", ","), "--metrics: names none"),
    (("--metrics", "lpips"), "give a local file with --lpips_weights"),
    (("--labels", "a", "b"), "are 2 for 1 folders"),
    (("--labels", "rainy input"), "give each another"),
    (("--workers", "0"), "--workers 0"),
    (("--pattern", "(", ), "no regular expression"),
    (("--pattern", "x", "--strip_suffix", "y"), "choose one"),
    (("--input", "nowhere"), "--input nowhere: is no folder"),
])  # fmt: skip
def test_mistakes_are_told_in_a_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("lpips") if "lpips" in flags else None
    assert message in refusal(root, capsys, *flags)


@pytest.mark.parametrize(("flags", "message"), [
    ((), "--metrics niqe,brisque"),
    (("--metrics", "psnr"), "--metrics psnr: compares with ground truth"),
])  # fmt: skip
def test_without_ground_truth_only_some_metrics_can_be_had(
    root: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert message in refusal(root, capsys, *flags, gt=False)


@pytest.mark.heavy
@pytest.mark.parametrize("protocol", ["y", "y-matlab"])
def test_rain100l_s_published_input_row(tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    """26.90 dB and 0.8384 of the untouched rainy images, in the field's tables."""
    if RAIN100L not in os.environ:
        pytest.skip(f"the environment variable {RAIN100L} does not name the prepared set (with testA and testB)")
    sides = [str(Path(os.environ[RAIN100L]) / side) for side in ("testA", "testB")]
    flags = ["--results", sides[0], "--gt", sides[1], "--protocol", protocol, "--out", str(tmp_path)]
    assert evaluate.main(flags) == 0
    assert re.search(r"(?m)^testA +26\.90 +0\.8384 ", capsys.readouterr().out)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["count"] == 100
