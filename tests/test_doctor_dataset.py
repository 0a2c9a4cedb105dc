"""scripts/doctor.py on datasets: broken, too small, unpaired, and the same file twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from options import parse_train
from scripts._doctor import dataset as doctor_dataset
from scripts._doctor.checks import OK, PROBLEM, WARNING, Finding
from scripts._doctor.run import Request
from tests.doctor_findings import of, only, statuses
from util.errors import UserError


def picture(path: Path, side: int = 40, *, seed: int = 0, value: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise if value is None else np.full_like(noise, value)).save(path)
    return path


def look(root: Path, **chosen: Any) -> list[Finding]:
    """The findings on a dataset, with options as for a small training."""
    survey = doctor_dataset.survey_of(root)
    values: dict[str, Any] = {"load_size": 36, "crop_size": 32, **chosen}
    flags = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    opt = parse_train(["--dataroot", str(root), *flags])
    return [
        *doctor_dataset.check_images(survey),
        *doctor_dataset.check_training(survey, opt),
        *doctor_dataset.check_pairs_of(survey, "test", opt.direction),
        *doctor_dataset.check_same_files(survey),
    ]


def test_a_good_dataset_has_no_problem(dataset: Path) -> None:
    findings = look(dataset)
    assert PROBLEM not in statuses(findings)
    assert of(findings, "images").found == "all 11 decoded, the headers of all read"
    assert of(findings, "test pairs").found == "2, all of equal size"
    assert of(findings, "same files").status == OK


def test_few_training_images_are_told(dataset: Path) -> None:
    few = [finding for finding in look(dataset) if finding.subject == "training images"]
    assert [finding.found for finding in few] == ["trainA has only 3", "trainB has only 4"]


def test_a_domain_of_enough_images_is_described(tmp_path: Path) -> None:
    for index in range(10):
        picture(tmp_path / "trainA" / f"{index}.png", 40 + index)
        picture(tmp_path / "trainB" / f"{index}.png", seed=1)
    first, _ = (finding for finding in look(tmp_path) if finding.subject == "training images")
    assert first == Finding(OK, "training images", "trainA: 10, sides 40 to 49, fit --preprocess resize_and_crop")


def test_files_that_cannot_be_read(dataset: Path) -> None:
    (dataset / "trainA" / "empty.png").touch()
    whole = picture(dataset / "trainA" / "cut.png")
    whole.write_bytes(whole.read_bytes()[:-200])
    finding = of(look(dataset), "images")
    assert finding.status == PROBLEM and finding.found.startswith("2 cannot be read")
    assert "empty.png" in finding.found and "cut.png" in finding.found


def test_files_that_show_nothing(dataset: Path) -> None:
    picture(dataset / "trainB" / "black.png", value=0)
    finding = of(look(dataset), "images")
    assert finding.status == WARNING and finding.found.startswith("1 show nothing") and "black.png" in finding.found


def test_images_beyond_the_time_are_said(tmp_path: Path) -> None:
    count = 4 * (os.cpu_count() or 1) + 1
    for index in range(count):
        picture(tmp_path / "trainA" / f"{index}.png", 8)
    ticks = iter([0.0, 1.0, 2.0])
    finding = only(doctor_dataset.check_images(doctor_dataset.survey_of(tmp_path), 0.5, lambda: next(ticks)))
    assert finding.found == f"a random {count - 1} of {count} decoded, the headers of all read"


@pytest.mark.parametrize("mode", ["unaligned", "aligned"])
def test_too_small_for_the_crop(dataset: Path, mode: str) -> None:
    for domain in "AB":
        for path in (dataset / f"train{domain}").iterdir():
            path.unlink()
        picture(dataset / f"train{domain}" / "small.png", 30)
    with pytest.raises(UserError, match=r"small\.png.*--crop_size 32"):
        look(dataset, preprocess="crop", dataset_mode=mode)


def test_pairs_that_do_not_go_together(dataset: Path) -> None:
    picture(dataset / "testA" / "alone.png")
    with pytest.raises(UserError, match=r"without a partner: 1 in testA \(first 'alone\.png'\)"):
        look(dataset)


def test_pairs_too_small_to_measure(dataset: Path) -> None:
    for domain in "AB":
        picture(dataset / f"test{domain}" / "tiny.png", 10)
    finding = of(look(dataset), "test pairs")
    assert finding.status == PROBLEM and "tiny.png" in finding.found


def test_images_without_ground_truth_are_fine(dataset: Path) -> None:
    for path in (dataset / "testB").iterdir():
        path.unlink()
    (dataset / "testB").rmdir()
    finding = of(look(dataset), "test pairs")
    assert finding.status == OK and "2 images without ground truth" in finding.found


def test_the_same_file_on_both_sides_is_a_leak(dataset: Path) -> None:
    source = picture(dataset / "trainA" / "x.png")
    (dataset / "trainB" / "other name.png").write_bytes(source.read_bytes())
    finding = of(look(dataset), "same files")
    assert finding.status == WARNING and finding.found == "1 in trainA and in trainB: x.png = other name.png"


def test_a_test_image_in_training_is_a_leak(dataset: Path) -> None:
    source = next((dataset / "testB").iterdir())
    (dataset / "trainB" / "seen.png").write_bytes(source.read_bytes())
    finding = of(look(dataset), "same files")
    assert finding.status == WARNING and f"{source.name} = seen.png" in finding.found and "trained" in finding.todo


def test_files_that_only_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    pixels = np.zeros((200, 200, 3), dtype=np.uint8)
    for domain, last in (("A", 0), ("B", 255)):
        pixels[-1, -1] = last
        path = tmp_path / f"train{domain}" / "x.bmp"
        path.parent.mkdir()
        Image.fromarray(pixels[::-1]).save(path)  # BMP begins with the lowest row, which is that of the difference
        Image.fromarray(pixels).save(path.with_name("y.bmp"))
    survey = doctor_dataset.survey_of(tmp_path)
    assert {path.stat().st_size for path in survey.sizes} == {120054}
    assert doctor_dataset.same_files(survey.folders) == []


def test_a_folder_without_images_is_a_problem(dataset: Path) -> None:
    for path in (dataset / "trainB").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="trainB' holds no image"):
        look(dataset)


@pytest.mark.parametrize("wrong", ["datb", "data/trainA", "empty"])
def test_a_wrong_folder_gets_the_programs_own_words(dataset: Path, wrong: str) -> None:
    (dataset.parent / "empty").mkdir()
    with pytest.raises(UserError, match="--dataroot"):
        doctor_dataset.survey_of(dataset.parent / wrong if wrong != "data/trainA" else dataset / "trainA" / "absent")


def test_pictures_without_layout_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    findings = list(doctor_dataset.check_dataset(Request(str(tmp_path), None, str(tmp_path))))
    assert "--input) 1" in of(findings, "dataset").found
    assert of(findings, "training images").status == WARNING
    assert PROBLEM not in statuses(findings)


def test_one_broken_part_leaves_the_others(dataset: Path) -> None:
    picture(dataset / "testA" / "alone.png")
    findings = list(doctor_dataset.check_dataset(Request(str(dataset), None, str(dataset))))
    assert of(findings, "test pairs").status == PROBLEM
    assert of(findings, "same files").status == OK
