"""The recipe of the cclgan model: its split, its data, what is published, and how gains are told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from models.networks import create_generator
from options import parse_train, read_options
from options.recipe import read_recipe, recipe_commands
from scripts import train_general
from scripts._general import dataset as recipe
from scripts._general.measure import gain_by_input
from scripts._general.publish import publish
from scripts._general.split import Split, split_photos
from scripts.train_general import AVERAGED, RECIPE, SPLIT
from util.errors import UserError
from util.names import PRETRAINED

SCENES = ("town/a.jpg", "town/b.jpg", "sea.jpg", "road.jpg", "test.jpg", "val.jpg", "twin.jpg")
LISTS = {"test": ["test.jpg"], "val": ["val.jpg"], "left_out": ["twin.jpg"]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(SCENES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def write_list(folder: Path, content: object) -> Path:
    path = folder / "split.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def split(photos: Path, tmp_path: Path) -> Split:
    return split_photos(photos, write_list(tmp_path, LISTS))


def test_what_no_list_names_is_trained_on(split: Split) -> None:
    named = [[file.name for file in files] for files in (split.train, split.val, split.test)]
    assert named == [["road.jpg", "sea.jpg", "town/a.jpg", "town/b.jpg"], ["val.jpg"], ["test.jpg"]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({**LISTS, "test": ["tset.jpg"]}, "1 photographs that .* names are missing, such as tset.jpg"),
        ({**LISTS, "val": ["test.jpg"]}, "names test.jpg twice"),
        ({**LISTS, "left_out": list(SCENES[:4])}, "fewer than 2 photographs"),
        ({"test": []}, "must hold the lists test, val, left_out"),
        ({**LISTS, "val": "val.jpg"}, "must hold the lists"),
        ([], "must hold the lists"),
    ],
)
def test_a_wrong_split_is_one_sentence(photos: Path, tmp_path: Path, content: object, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        split_photos(photos, write_list(tmp_path, content))


def test_the_shipped_split_keeps_the_demos_test_scenes_from_training() -> None:
    lists = yaml.safe_load(SPLIT.read_text(encoding="utf-8"))
    names = [name for each in lists.values() for name in each]
    assert len(names) == len(set(names))
    assert len(lists["test"]) >= 40
    for scene in (SPLIT.parents[2] / "datasets" / "photos" / "test").glob("*.jpg"):
        assert any(scene.stem in name for name in lists["test"]), scene.stem


def test_no_scene_is_on_two_sides_or_in_two_parts(photos: Path, split: Split, tmp_path: Path) -> None:
    manifest = recipe.make_dataset(photos, split, tmp_path / "out", workers=1)

    def scenes(folder: str) -> set[str]:
        images = sorted((tmp_path / "out" / folder).rglob("*.png"))
        return {image.stem.partition("_rain")[0] for image in images}

    parts = [scenes(folder) for folder in ("trainA", "trainB", "valA", "testA")]
    assert all(parts) and sum(map(len, parts)) == len(set().union(*parts)) == 6
    assert scenes("testA") == scenes("testB") == scenes("clean/testA") == scenes("clean/testB")
    assert manifest["parts"]["test 512"]["counts"] == {"testA": 2, "testB": 2}
    again = recipe.make_dataset(photos, split, tmp_path / "out", workers=1)
    assert again == manifest


def test_another_dataset_in_its_place_is_left_alone(photos: Path, split: Split, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match=r"--out .*something else"):
        recipe.make_dataset(photos, split, tmp_path / "out", workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_what_is_published_is_the_mean_of_generators_in_half_precision(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    states = {}
    for tag in ("5", "10"):
        network = create_generator("resunet", 3, 3, 4, norm="none", residual=True, init_type="kaiming")
        states[tag] = network.state_dict()
        torch.save(states[tag], run / f"{tag}_net_G_A.pth")
    (run / "options.yaml").write_text("model: cclgan\nnetG: resunet\nngf: 4\nlr: 0.1\n", encoding="utf-8")
    facts = publish(run, ["5", "10"], tmp_path / "shipped")
    file = tmp_path / "shipped" / "latest_net_G_A.pth"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == facts["sha256"]
    for key, value in torch.load(file, weights_only=True).items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), (states["5"][key] + states["10"][key]) / 2, rtol=1e-3, atol=1e-6)
    options = yaml.safe_load((tmp_path / "shipped" / "options.yaml").read_text(encoding="utf-8"))
    assert options == {"model": "cclgan", "netG": "resunet", "ngf": 4}


def test_an_unfinished_run_cannot_be_published(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{AVERAGED[0]}_net_G_A\.pth is missing"):
        publish(tmp_path, AVERAGED, tmp_path / "shipped")


def test_the_mean_is_of_the_epochs_that_the_last_stage_keeps() -> None:
    _, before, last = read_recipe(RECIPE)
    every = {**before, **last}["save_epoch_freq"]
    done, total = (stage["n_epochs"] + stage["n_epochs_decay"] for stage in (before, last))
    assert list(AVERAGED) == [str(epoch) for epoch in range(done + 1, total + 1) if epoch % every == 0]


def test_each_stage_trains_longer_than_the_one_before_in_the_same_run() -> None:
    """A finished stage is then passed over where an interrupted training continues."""
    first, *later = read_recipe(RECIPE)
    lengths = [read_options(RECIPE.parent / first["config"]), *later]
    totals = [stage["n_epochs"] + stage["n_epochs_decay"] for stage in lengths]
    assert totals == sorted(set(totals)) and all(stage["continue_train"] for stage in later)


def test_the_training_is_the_recipe_and_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def fail(command: list[str]) -> int:
        commands.append(command)
        return 130

    monkeypatch.setattr(train_general.train_program, "main", fail)
    args = train_general.parse(["--photos", str(tmp_path), "--out", str(tmp_path / "rain"), "--", "--lr", "1"])
    with pytest.raises(UserError, match="exit code 130"):
        train_general.train(args, tmp_path)
    (command,) = commands
    assert command[command.index("--dataroot") + 1] == str(tmp_path / "rain")
    assert command[-2:] == ["--lr", "1"]
    for stage in recipe_commands(command) or ():
        options = parse_train([flag for flag in stage if not flag.startswith("--continue_train")])
        assert (options.name, options.seed, options.lr) == ("general", 1, 1.0)


def test_gains_are_means_within_bands_of_the_input(tmp_path: Path) -> None:
    rows = "name,psnr,input_psnr\na,24,20\nb,25,24.9\nc,40,30\nd,19,19.99\nmean,27,23.7\n"
    (tmp_path / "metrics.csv").write_text(rows, encoding="utf-8")
    bands = {
        (band["from"], band["images"]): (band["input"], band["output"])
        for band in gain_by_input(tmp_path / "metrics.csv")
    }
    assert bands == {
        (0.0, 1): (19.99, 19.0),
        (20.0, 2): (pytest.approx(22.45), pytest.approx(24.5)),
        (30.0, 1): (30.0, 40.0),
    }


# The published model ----------------------------------------------------------------------------


MOST_BYTES = 6_000_000
PUBLISHED = PRETRAINED / "cclgan"
CARD = json.loads((PUBLISHED / "card.json").read_text(encoding="utf-8"))


def test_the_published_file_is_the_one_of_its_card_small_and_in_half_precision() -> None:
    file = PUBLISHED / CARD["model"]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == CARD["model"]["sha256"]
    assert file.stat().st_size == CARD["model"]["bytes"] <= MOST_BYTES
    assert {value.dtype for value in torch.load(file, weights_only=True).values()} == {torch.float16}


def test_the_card_states_three_decibels_where_rain_is_heavy_and_clean_pictures_kept() -> None:
    """What the model must do on the 80 rainy and the 40 clean test pictures to be the one that ships."""
    (band,) = (band for band in CARD["test"]["gain_by_input"] if band["from"] == 20)
    assert band["output"] - band["input"] >= 3
    assert CARD["test"]["clean"]["psnr"] >= 35


def test_the_published_model_is_what_the_recipe_trains() -> None:
    recipe_options = read_options(RECIPE.parent / "general_options.yaml")
    shipped = yaml.safe_load((PUBLISHED / "options.yaml").read_text(encoding="utf-8"))
    assert shipped["ngf"] <= 32
    assert {key: value for key, value in recipe_options.items() if key in shipped}.items() <= shipped.items()
