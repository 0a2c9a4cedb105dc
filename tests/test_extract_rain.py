"""Layers of real rain: what is taken off, where it is written, and that training puts it on clean photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.creation import create_training_loader
from data.rain import fresh
from data.rain.fresh import from_layer
from data.rain.layers import holds_rain, rain_layer
from models.restoration_model import RestorationModel
from options import parse_train
from scripts import extract_rain
from util.errors import UserError


def photograph(size: tuple[int, int] = (80, 100)) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 120, (*size, 3), dtype=np.uint8)


def with_streak(image: np.ndarray, value: int = 60) -> np.ndarray:
    rainy = image.copy()
    rainy[20:60, 50:52] += np.uint8(value)
    return rainy


def test_a_layer_holds_narrow_light_alone() -> None:
    clean = photograph()
    layer = rain_layer(with_streak(clean), clean) / (4 * 255)
    assert layer[20:60, 50:52].min() > 0.8 * 60 / 255
    assert layer[:, 60:].max() == 0 and layer[:, :40].max() == 0
    wide = np.full_like(clean, 30)
    assert (rain_layer(clean + wide, clean) / (4 * 255)).max() < 0.25 * 30 / 255, "of an even change a fifth is left"
    assert rain_layer(clean, with_streak(clean)).max() < 40, "light that was added is no rain"


def test_the_command_writes_layers_of_those_with_rain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = photograph()
    dense = clean.copy()
    dense[:, ::8] += np.uint8(80)
    for name, rainy in {"town/a.png": dense, "dry.png": clean}.items():
        for folder, pixels in (("rainy", rainy), ("derained", clean)):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    flags = [
        "--rainy",
        str(tmp_path / "rainy"),
        "--derained",
        str(tmp_path / "derained"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert not extract_rain.main(flags)
    assert "1 layers" in capsys.readouterr().out
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"town/a.png"}
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/town/a.png")), rain_layer(dense, clean))
    assert holds_rain(rain_layer(dense, clean)) and not holds_rain(rain_layer(clean, clean))
    with pytest.raises(UserError, match="not an empty folder"):
        extract_rain.parse(flags)


def test_a_layer_comes_in_any_strength_and_place_but_in_the_shape_asked_for() -> None:
    layer = rain_layer(with_streak(photograph(), 100), photograph())
    drawn = [from_layer(layer, (64, 48), np.random.default_rng(seed)) for seed in range(8)]
    assert {s.shape for s in drawn} == {(64, 48)}
    assert len({round(float(s.max()), 6) for s in drawn if s.max() > 0}) > 3, "some places have no rain"


def test_training_puts_layers_on_clean_photographs(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []

    def from_layers_alone(*args: object) -> object:
        kinds.append("real")
        return from_layer(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fresh, "LAYER_SHARE", 1.0)
    monkeypatch.setattr(fresh, "from_layer", from_layers_alone)
    (tmp_path / "layers").mkdir()
    Image.fromarray(np.full((50, 60), 90, np.uint8)).save(tmp_path / "layers" / "a.png")
    flags = ["--model", "restoration", "--dataroot", str(dataset), "--dataset_mode", "rain", "--crop_size", "32"]
    flags += ["--rain_layers", str(tmp_path / "layers"), "--num_threads", "0"]
    batches = list(create_training_loader(parse_train(flags), RestorationModel.streams).epoch(1))
    assert len(kinds) == sum(len(batch["A"]) for batch in batches)


def test_a_missing_folder_of_layers_is_one_sentence(dataset: Path) -> None:
    flags = ["--model", "restoration", "--dataroot", str(dataset), "--dataset_mode", "rain", "--crop_size", "32"]
    opt = parse_train([*flags, "--rain_layers", "nowhere"])
    with pytest.raises(UserError, match="--rain_layers nowhere"):
        create_training_loader(opt, RestorationModel.streams)
