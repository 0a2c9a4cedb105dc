"""The model that ships: its file and card, spandrel's reading of it, and what it does on photographs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

import test as test_program
from data.rain.synthesis import generator_for, rain_on
from options.runs import read_options
from scripts._trained import load_trained
from scripts.train_derain import KEPT_OPTIONS, OPTIONS
from util.names import SHIPPED

MOST_BYTES = 6_000_000
CARD = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))
PHOTOS = sorted((Path(__file__).resolve().parents[1] / "datasets" / "photos" / "test").glob("*.jpg"))
# dB over RGB. The rain is that of a renderer that training never used.
LEAST_GAIN = {"": 7.5, " parts": 1.0}  # on the small parts rain is finer than a pixel: see docs/derainer.md
LEAST_FIDELITY = 55.0


def test_the_shipped_file_is_the_one_of_its_card_and_small() -> None:
    file = SHIPPED / CARD["model"]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == CARD["model"]["sha256"]
    assert file.stat().st_size == CARD["model"]["bytes"] <= MOST_BYTES
    assert sum(value.numel() for value in load_file(file).values()) == CARD["model"]["parameters"]


def test_the_card_states_what_a_model_must_do_to_ship() -> None:
    """On scenes and under renderers that training never used."""
    (band,) = (band for band in CARD["gain_by_input"] if band["from"] == 20)
    assert band["output"] - band["input"] >= 6
    assert CARD["test"]["clean"]["psnr"] >= 45
    rainy = [kind for name, kind in CARD["test"].items() if name != "clean"]
    assert all(kind["ciede2000"] < kind["input_ciede2000"] for kind in [*rainy, *CARD["gain_by_input"]])
    assert sum(kind["worse"] for kind in rainy) < 0.01 * sum(kind["images"] for kind in rainy)


def test_the_shipped_model_is_what_the_recipe_trains() -> None:
    recipe = {key: value for key, value in read_options(OPTIONS).items() if key in KEPT_OPTIONS}
    shipped = yaml.safe_load((SHIPPED / "options.yaml").read_text(encoding="utf-8"))
    assert recipe.items() <= shipped.items()


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
def test_spandrel_gives_the_same_pixels(size: tuple[int, int]) -> None:
    spandrel = pytest.importorskip("spandrel")
    photo = np.asarray(Image.open(PHOTOS[0]).convert("RGB"))[: size[0], : size[1]]
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        theirs = spandrel.ModelLoader().load_from_file(SHIPPED / CARD["model"]["file"])(x)
        ours = ((load_trained([]).model.infer(2 * x - 1) + 1) / 2).clamp(0, 1)
    levels = ((theirs - ours) * 255).abs()
    assert levels.max() < 0.01, "of 255 levels, so that none but a tie is rounded otherwise"


@pytest.fixture(scope="module")
def derained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Mean PSNR over RGB and CIEDE2000 of photographs and of small parts of them, clean and rainy, by test.py."""
    folder = tmp_path_factory.mktemp("derained")
    whole = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in PHOTOS}
    parts = {name: pixels[100:292, 200:456] for name, pixels in whole.items()}
    found: dict[str, float] = {}
    for size, clean in (("", whole), (" parts", parts)):
        rainy = {
            name: rain_on(pixels, generator_for(5, name, 0), "heavy", fog=False).pixels
            for name, pixels in clean.items()
        }
        found[f"input{size}"], found[f"input color{size}"] = mean_psnr(clean, rainy), mean_color(clean, rainy)
        for kind, images in (("clean", clean), ("rainy", rainy)):
            output = by_the_command(images, folder / f"{kind}{size}")
            found[f"{kind}{size}"], found[f"{kind} color{size}"] = mean_psnr(clean, output), mean_color(clean, output)
    return found


def by_the_command(images: Mapping[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """What test.py makes of the images, with no word about a model."""
    folder.mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    output = folder.with_name(f"{folder.name} out")
    assert test_program.main(["--input", str(folder), "--output", str(output), "--gpu_ids", "-1"]) == 0
    return {name: np.asarray(Image.open(output / f"{name}.png")) for name in images}


def mean_psnr(true: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([min(99.0, peak_signal_noise_ratio(true[name], found[name])) for name in true]))


def mean_color(true: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([deltaE_ciede2000(rgb2lab(true[name]), rgb2lab(found[name])).mean() for name in true]))


@pytest.mark.parametrize("size", ["", " parts"])
def test_without_a_checkpoint_the_shipped_model_takes_rain_away(size: str, derained: dict[str, float]) -> None:
    assert derained[f"rainy{size}"] > derained[f"input{size}"] + LEAST_GAIN[size]


@pytest.mark.parametrize("size", ["", " parts"])
def test_colors_get_better(size: str, derained: dict[str, float]) -> None:
    assert derained[f"rainy color{size}"] < derained[f"input color{size}"]


@pytest.mark.parametrize("size", ["", " parts"])
def test_the_shipped_model_leaves_clean_pictures_alone(size: str, derained: dict[str, float]) -> None:
    assert derained[f"clean{size}"] > LEAST_FIDELITY
