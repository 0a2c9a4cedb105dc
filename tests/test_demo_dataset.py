"""The demo's dataset: unpaired training scenes, paired unseen test scenes, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts import make_demo_dataset
from scripts.make_demo_dataset import PHOTOS, Tile, cut_tiles, make_dataset, rain_on
from util.errors import UserError

PARTS = ("trainA", "trainB", "testA", "testB")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(make_demo_dataset, "TRAIN_SIDE", 30)
    rng = np.random.default_rng(0)
    for name in ("train/lake", "train/road", "test/wood"):
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scenes(folder: Path, part: str) -> set[str]:
    return {path.name.split("_")[0] for path in (folder / part).iterdir()}


def test_training_is_unpaired_and_test_scenes_are_unseen(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", photos=photos)
    rainy = {path.stem.rsplit("_rain", 1)[0] for path in (tmp_path / "out" / "trainA").iterdir()}
    clean = {path.stem for path in (tmp_path / "out" / "trainB").iterdir()}
    assert len(rainy) == len(clean) == 6
    assert not rainy & clean, "a tile is on both sides"
    assert scenes(tmp_path / "out", "trainA") == scenes(tmp_path / "out", "trainB") == {"lake", "road"}
    assert scenes(tmp_path / "out", "testA") == {"wood"}


def test_test_pairs_have_the_same_names_and_sizes_and_differ_by_rain(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", photos=photos)
    rainy, clean = (sorted((tmp_path / "out" / part).iterdir()) for part in ("testA", "testB"))
    assert [path.name for path in rainy] == [path.name for path in clean]
    for a, b in zip(rainy, clean, strict=True):
        with Image.open(a) as image_a, Image.open(b) as image_b:
            assert image_a.size == image_b.size
            assert np.mean(np.asarray(image_a, float) - np.asarray(image_b, float)) > 5


def test_the_shipped_photographs_are_for_training_or_testing() -> None:
    training, testing = ({path.stem for path in (PHOTOS / side).glob("*.jpg")} for side in ("train", "test"))
    assert training and testing and not training & testing


def test_every_shipped_photograph_is_attributed() -> None:
    text = (PHOTOS / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert [path.name for path in PHOTOS.rglob("*.jpg") if f"`{path.parent.name}/{path.name}`" not in text] == []


def test_shipped_photographs_are_small_and_without_metadata() -> None:
    paths = list(PHOTOS.rglob("*.jpg"))
    assert sum(path.stat().st_size for path in paths) < 3e6
    for path in paths:
        with Image.open(path) as image:
            assert not image.getexif()


def test_writing_twice_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "one", photos=photos)
    make_dataset(tmp_path / "two", photos=photos)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_complete_dataset_is_reused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_dataset(tmp_path / "out", photos=photos)
    monkeypatch.setattr(make_demo_dataset, "_write_images", lambda *_: pytest.fail("written again"))
    assert not make_dataset(tmp_path / "out", photos=photos)


def test_a_missing_image_is_noticed_and_all_is_written_again(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", photos=photos)
    before = contents(tmp_path / "out")
    next((tmp_path / "out" / "trainA").iterdir()).unlink()
    assert make_dataset(tmp_path / "out", photos=photos)
    assert contents(tmp_path / "out") == before


def test_another_seed_replaces_the_dataset(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", photos=photos)
    before = contents(tmp_path / "out")
    assert make_dataset(tmp_path / "out", seed=2, photos=photos)
    after = contents(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]) == name.startswith(("trainB", "testB")) for name in before)


def test_an_interrupted_run_leaves_nothing_that_looks_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(tile: Tile, seed: int, draw: int = 0) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make_demo_dataset, "rain_on", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(tmp_path / "out", photos=photos)
    assert not (tmp_path / "out").exists()
    assert make_dataset(tmp_path / "out", photos=photos)
    assert all(any((tmp_path / "out" / part).iterdir()) for part in PARTS)
    assert not list(tmp_path.glob(".out*"))


def test_someone_elses_folder_is_never_replaced(photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "trainA" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"precious")
    with pytest.raises(UserError, match="--output"):
        make_dataset(tmp_path / "out", photos=photos)
    assert mine.read_bytes() == b"precious"


def test_the_manifest_counts_what_is_there(photos: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", photos=photos)
    listed = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text(encoding="utf-8"))["files"]
    sizes = [len(data) for name, data in contents(tmp_path / "out").items() if name.endswith(".png")]
    assert listed == {"number": len(sizes), "bytes": sum(sizes)}


def test_a_data_set_of_an_older_version_is_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "trainA").mkdir(parents=True)
    (tmp_path / "out" / "dataset.json").write_text('{"fingerprint": "abc", "seed": 1, "files": {}}', encoding="utf-8")
    assert make_dataset(tmp_path / "out", photos=photos)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_tiles_are_disjoint_parts_of_the_photograph() -> None:
    photo = np.arange(50 * 90, dtype=np.uint16).reshape(50, 90, 1)  # every pixel unmistakable
    cut = cut_tiles("x", photo, side=30)  # type: ignore[arg-type]
    assert [tile.black for tile in cut] == [True, False, True, False, True, False]
    tiles = [tile.pixels for tile in cut]
    assert [tile.shape for tile in tiles] == [(25, 30, 1)] * 6
    seen = np.concatenate([tile.ravel() for tile in tiles])
    assert len(np.unique(seen)) == seen.size == 25 * 30 * 6


def test_rain_on_a_tile_depends_on_its_name_seed_and_draw_only() -> None:
    pixels = np.full((32, 32, 3), 90, np.uint8)
    first = rain_on(Tile("a", pixels), seed=1)
    assert np.array_equal(first, rain_on(Tile("a", pixels), seed=1))
    for other in (rain_on(Tile("b", pixels), 1), rain_on(Tile("a", pixels), 2), rain_on(Tile("a", pixels), 1, draw=1)):
        assert not np.array_equal(first, other)


def test_the_command_line_reports_a_negative_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_demo_dataset.main(["--output", str(tmp_path / "x"), "--seed", "-1"]) == 2
    assert "--seed -1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
