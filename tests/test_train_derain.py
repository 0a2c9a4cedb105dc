"""The recipe of the derainer: its photographs, its stages, and what is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from options import parse_test, parse_train
from scripts import train_derain
from scripts.train_derain import OPTIONS, STAGES, STEPS_AN_EPOCH, Stage
from util.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, (name, size) in enumerate({"town/a.jpg": (300, 240), "b.png": (1600, 1440)}.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        low = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(low).resize(size).save(path)
    return folder


def test_photographs_are_there_at_three_sizes_once(photos: Path, tmp_path: Path) -> None:
    out = train_derain.resize_photos(photos, tmp_path / "out")
    files = sorted((out / "trainB").rglob("*.png"))
    sizes = {str(file.relative_to(out / "trainB")): Image.open(file).size for file in files}
    assert sizes == {
        "0.5/b.png": (400, 360), "0.5/town/a.png": (200, 200), "0.72/b.png": (576, 518), "0.72/town/a.png": (216, 200),
        "1/b.png": (800, 720), "1/town/a.png": (300, 240),
    }  # fmt: skip
    before = [file.stat().st_mtime_ns for file in files]
    train_derain.resize_photos(photos, tmp_path / "out")
    assert [file.stat().st_mtime_ns for file in files] == before


def test_every_stage_is_a_valid_command_whose_steps_add_up(tmp_path: Path) -> None:
    for stage in STAGES:
        opt = parse_train(["--dataroot", str(tmp_path), "--config", str(OPTIONS), "--crop_size", str(stage.crop_size)])
        assert (opt.model, opt.netG, opt.dataset_mode) == ("restoration", "nafnet", "rain")
        assert stage.crop_size <= train_derain.SMALLEST_SIDE
    assert [stage.last_epoch for stage in STAGES] == sorted(stage.last_epoch for stage in STAGES)
    assert STEPS_AN_EPOCH == 200, "scripts/derain_options.yaml says so"


def test_one_command_trains_and_publishes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_derain, "ROOT", tmp_path)
    monkeypatch.setattr(train_derain, "STEPS_AN_EPOCH", 2)
    monkeypatch.setattr(train_derain, "STAGES", (Stage(1, 32, 2), Stage(2, 48, 1)))
    small = [
        "--ngf",
        "4",
        "--nafnet_blocks",
        "1,1,1",
        "--compile",
        "off",
        "--num_threads",
        "0",
        "--no_html",
        "--gpu_ids=-1",
    ]
    removed: list[Path] = []
    layers = tmp_path / "layers"
    layers.mkdir()

    def take_rain(_rain: Path, run: Path, _out: Path) -> Path:
        removed.append(run)
        return layers

    monkeypatch.setattr(train_derain, "take_rain", take_rain)
    Image.fromarray(np.full((60, 60), 80, np.uint8)).save(layers / "a.png")
    command = ["--photos", str(photos), "--out", str(tmp_path / "out"), "--publish", str(tmp_path / "published")]
    train_derain.main([*command, "--rain_photos", str(photos), "--", *small])
    file = tmp_path / "published" / "latest_net_G.safetensors"
    trained = torch.load(tmp_path / "checkpoints" / "derain" / "latest_net_G.pth", weights_only=True)
    published = load_file(file)
    assert all(torch.equal(published[key], trained[key]) for key in trained) and len(published) == len(trained)
    options = yaml.safe_load((tmp_path / "published" / "options.yaml").read_text(encoding="utf-8"))
    assert (options["model"], options["netG"], options["ngf"]) == ("restoration", "nafnet", 4)
    assert parse_test(["--input", "x", "--checkpoint", str(tmp_path / "published")]).work_size == train_derain.WORK_SIZE
    run = yaml.safe_load((tmp_path / "checkpoints" / "derain" / "options.yaml").read_text(encoding="utf-8"))
    assert removed == [tmp_path / "checkpoints" / "derain"], "once, before the second of two stages"
    assert run["resolved"]["rain_layers"] == str(layers)
    assert (run["resolved"]["crop_size"], run["resolved"]["lr_horizon"]) == (48, 2)


def test_real_rain_is_taken_with_the_runs_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rain, clean = tmp_path / "rain", np.full((500, 620, 3), 60, np.uint8)
    rain.mkdir()
    rainy = clean.copy()
    rainy[:, ::12] = 200
    Image.fromarray(rainy).save(rain / "a.png")

    def derain(command: list[str]) -> int:
        source, output = (Path(command[command.index(flag) + 1]) for flag in ("--input", "--output"))
        for path in source.rglob("*.png"):
            target = output / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full_like(np.asarray(Image.open(path)), 60)).save(target)
        return 0

    monkeypatch.setattr(train_derain.test_program, "main", derain)
    layers = train_derain.take_rain(rain, tmp_path / "run", tmp_path / "out")
    assert sorted(Image.open(path).size for path in layers.rglob("*.png")) == [(372, 300), (595, 480)]
    monkeypatch.setattr(train_derain.test_program, "main", lambda command: pytest.fail("they are there"))
    assert train_derain.take_rain(rain, tmp_path / "run", tmp_path / "out") == layers


def test_a_share_out_of_range_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--share 2"):
        train_derain.parse(["--photos", str(tmp_path), "--share", "2"])
