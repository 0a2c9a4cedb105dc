"""The rain data set on disk: complete or absent, the same whoever writes it, and what it refuses."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data.files import find_test_units
from data.rain import dataset
from data.rain.dataset import Job, Output, Settings, fitting, make_images
from scripts.synthesize_rain import main
from util.staging import Staging

NAMES = ("lake.png", "road.jpg", "town/street.png", "town/wood.png", "zoo.png")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "clean"
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / name)
    return folder


def run(clean: Path, out: Path, *flags: str) -> int:
    return main(["--clean", str(clean), "--out", str(out), "--workers", "1", *flags])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_pairs_have_equal_names_and_the_clean_side_is_the_source(clean: Path, tmp_path: Path) -> None:
    assert run(clean, tmp_path / "out", "--phase", "test", "--per_image", "2") == 0
    units = find_test_units(dataroot=tmp_path / "out", phase="test", ends=("A", "B"), eval_pairs="yes")
    assert len(units) == 10
    for rainy, target in units:
        source = next(clean / name for name in NAMES if target.name.startswith(Path(name).with_suffix("").as_posix()))
        assert (pixels(target.path) == pixels(source)).all()
        assert rainy.name == target.name
        assert (pixels(rainy.path) != pixels(target.path)).any()
    first, second = (pixels(tmp_path / "out" / "testA" / f"zoo_rain{k}.png") for k in (1, 2))
    assert (first != second).any()


def test_no_scene_is_on_both_sides_of_an_unpaired_set(clean: Path, tmp_path: Path) -> None:
    run(clean, tmp_path / "out", "--unpaired", "--per_image", "3", "--seed", "4")
    rainy = {name.removeprefix("trainA/").rsplit("_rain", 1)[0] for name in files(tmp_path / "out") if "trainA" in name}
    kept = {name.removeprefix("trainB/")[:-4] for name in files(tmp_path / "out") if "trainB" in name}
    assert rainy | kept == {Path(name).with_suffix("").as_posix() for name in NAMES} and not rainy & kept
    by_hash = sorted(NAMES, key=lambda name: hashlib.sha256(f"4/{name}".encode()).hexdigest())
    assert rainy == {Path(name).with_suffix("").as_posix() for name in by_hash[:3]}


def test_workers_change_nothing(clean: Path, tmp_path: Path) -> None:
    run(clean, tmp_path / "one", "--size", "32")
    run(clean, tmp_path / "two", "--size", "32", "--workers", "2")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_image_gets_the_same_rain_in_other_company(clean: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "zoo.png").write_bytes((clean / "zoo.png").read_bytes())
    run(alone, tmp_path / "few")
    run(clean, tmp_path / "many")
    assert (tmp_path / "few/trainA/zoo.png").read_bytes() == (tmp_path / "many/trainA/zoo.png").read_bytes()


def test_another_seed_or_preset_is_another_dataset(clean: Path, tmp_path: Path) -> None:
    hashes = set()
    for number, flags in enumerate([(), ("--seed", "1"), ("--preset", "heavy"), ("--preset", "heavy", "--no_fog")]):
        run(clean, tmp_path / str(number), *flags)
        hashes.add(yaml.safe_load((tmp_path / str(number) / "dataset.yaml").read_text())["sha256"]["images"])
    assert len(hashes) == 4


def test_the_stated_hash_and_psnr_are_those_of_the_files(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clean, tmp_path / "out")
    lines = []
    for name in sorted(name for name in files(tmp_path / "out") if name.endswith(".png")):
        array = pixels(tmp_path / "out" / name)
        lines.append(f"{name}\t{hashlib.sha256(b'40x60x3' + bytes([10]) + array.tobytes()).hexdigest()}\n")
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    manifest = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text(encoding="utf-8"))
    assert manifest["sha256"]["images"] == expected
    assert manifest["counts"] == {"trainA": 5, "trainB": 5}
    assert expected in capsys.readouterr().out
    with (tmp_path / "out" / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["side"] == "A"]
    for row in rows:
        target = pixels(tmp_path / "out" / row["file"].replace("trainA", "trainB")).astype(float)
        error = np.square(pixels(tmp_path / "out" / row["file"]) - target).mean()
        assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_running_twice_changes_nothing(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run(clean, out)
    before = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    assert run(clean, out, "--workers", "2") == 0
    assert {name: (out / name).stat().st_mtime_ns for name in files(out)} == before
    assert "nothing to do" in capsys.readouterr().out


def test_only_an_own_dataset_is_replaced_and_only_on_request(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(clean, out)
    before = contents(out)
    assert run(clean, out, "--seed", "1") == 2
    assert "--overwrite" in capsys.readouterr().err and contents(out) == before
    (out / "trainA" / "zoo.png").unlink()
    assert run(clean, out) == 2
    assert "damaged" in capsys.readouterr().err
    assert run(clean, out, "--overwrite") == 0 and contents(out) == before
    (out / "dataset.yaml").write_text("made_by: somebody else\n", encoding="utf-8")
    assert run(clean, out, "--overwrite") == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_truncated_image_is_named_and_nothing_is_left(
    clean: Path, tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("lake.png", "zoo.png"):
        (folder / name).write_bytes((clean / name).read_bytes())
    (folder / "half.png").write_bytes((clean / "zoo.png").read_bytes()[:3000])
    assert run(folder, tmp_path / "out", "--workers", workers) == 2
    message = capsys.readouterr().err
    assert "half.png" in message and message.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_an_interruption_leaves_nothing(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Iterator[int] = iter(range(9))

    def interrupted(job: Job, settings: Settings, folder: Path) -> list[Output]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return make_images(job, settings, folder)

    monkeypatch.setattr(dataset, "make_images", interrupted)
    assert run(clean, tmp_path / "out") == 130
    assert not list(tmp_path.iterdir())


def depth_files(clean: Path, folder: Path, size: tuple[int, int] = (60, 40)) -> Path:
    for name in NAMES:
        path = folder / f"{Path(name).with_suffix('')}_depth.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 200).save(path)
    return folder


def test_depth_is_found_by_name_and_decides_the_fog(clean: Path, tmp_path: Path) -> None:
    depth = depth_files(clean, tmp_path / "depth")
    assert run(clean, tmp_path / "far", "--depth", str(depth), "--preset", "heavy", "--size", "30x30") == 0
    assert pixels(tmp_path / "far/trainA/zoo.png").std() < 0.2 * pixels(tmp_path / "far/trainB/zoo.png").std()
    assert run(clean, tmp_path / "near", "--depth", str(depth), "--preset", "heavy", "--depth_step", "0.01") == 0
    assert pixels(tmp_path / "near/trainA/zoo.png").std() > 0.5 * pixels(tmp_path / "near/trainB/zoo.png").std()


def test_depth_that_is_missing_or_of_another_size_is_refused(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depth = depth_files(clean, tmp_path / "depth", (6, 4))
    assert run(clean, tmp_path / "out", "--depth", str(depth)) == 2
    assert "6×4" in capsys.readouterr().err
    (depth / "road_depth.png").unlink()
    assert run(clean, tmp_path / "out", "--depth", str(depth)) == 2
    assert "road.jpg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--clean", "nowhere"), "--clean"),
        (("--depth", "nowhere"), "--depth"),
        (("--seed", "-1"), "--seed"),
        (("--per_image", "0"), "--per_image"),
        (("--workers", "0"), "--workers"),
        (("--depth_step", "1"), "--depth_step"),
    ],
)
def test_bad_flags_are_one_sentence(
    clean: Path, tmp_path: Path, flags: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clean, tmp_path / "out", *flags) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and named in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_photographs_and_output_are_kept_apart(clean: Path, tmp_path: Path) -> None:
    before = files(clean)
    assert run(clean, clean) == run(clean, clean / "rain") == run(clean / "town", clean) == 2
    assert files(clean) == before


def test_folders_without_or_with_one_image(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    assert run(folder, tmp_path / "out") == 2
    assert "holds no image" in capsys.readouterr().err
    (folder / "zoo.png").write_bytes((clean / "zoo.png").read_bytes())
    assert run(folder, tmp_path / "out", "--unpaired") == 2
    assert "one image" in capsys.readouterr().err


def test_size_scales_or_cuts_out_the_middle(clean: Path, tmp_path: Path) -> None:
    run(clean, tmp_path / "scaled", "--size", "20")
    assert pixels(tmp_path / "scaled/trainA/zoo.png").shape == (20, 30, 3)
    run(clean, tmp_path / "cut", "--size", "24x24")
    assert pixels(tmp_path / "cut/trainA/zoo.png").shape == pixels(tmp_path / "cut/trainB/zoo.png").shape == (24, 24, 3)
    assert fitting((60, 40), (60, 40)) is None and fitting((60, 40), None) is None
    assert run(clean, tmp_path / "out", "--size", "3") == 2


def test_a_second_process_with_the_same_out_is_refused(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Staging(tmp_path / "out", "--out"):
        assert run(clean, tmp_path / "out") == 2
    assert "is writing there; wait for it, or choose another folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
