"""Which image is compared with which: by name, and nothing dropped in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.errors import UserError
from util.metrics.pairing import (
    NameRule,
    Pairing,
    by_pattern,
    default_rule,
    find_results,
    labels_for,
    pair,
    read_folder,
    same_names,
    without_suffixes,
)

SCENES = ("lindau_000000_000019", "munster_000001_000019")
RAIN = ("rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_1", "rain_alpha_0.03_beta_0.015_dropsize_0.002_pattern_12")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return folder


def paired(
    root: Path, rule: NameRule | None = None, *, results: tuple[str, ...] = ("a",), inputs: bool = False, **how: bool
) -> Pairing:
    """Pair the folders in ``root``."""
    folders = [read_folder(root / "in", flag="--input", label="rainy input")] if inputs else []
    folders += [read_folder(root / name, flag="--results") for name in results]
    target = read_folder(root / "gt", flag="--gt")
    return pair(folders, target, rule or same_names(), inputs_given=inputs, **how)


def found(pairing: Pairing, label: str = "a") -> dict[str, str]:
    return {item.images[label].name: item.target.name for item in pairing.items if item.target is not None}


def test_names_pair_below_the_folder_whatever_their_extension(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "night/3.bmp", "3.png")
    fill(tmp_path / "a", "3.JPG", "night/3.png")
    pairing = paired(tmp_path)
    assert [(item.name, item.target) for item in pairing.items] == [
        ("3", tmp_path / "gt" / "3.png"),
        ("night/3", tmp_path / "gt" / "night" / "3.bmp"),
    ]


@pytest.mark.parametrize("side", ["gt", "a"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, side: str) -> None:
    fill(tmp_path / "gt", "1.png")
    fill(tmp_path / "a", "1.png")
    fill(tmp_path / side, "1.jpg")
    with pytest.raises(UserError, match=r"'1\.jpg' and '1\.png' differ in the extension only"):
        paired(tmp_path)


def test_a_result_without_ground_truth_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "2.png")
    fill(tmp_path / "a", "1.png", "2.png", "extra.png")
    with pytest.raises(UserError, match=r"2 images match, 1 in .*a without ground truth \('extra'\)"):
        paired(tmp_path)


def test_a_dropped_result_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "2.png")
    fill(tmp_path / "a", "1.png")
    with pytest.raises(UserError, match=r"1 in .*gt without a result \('2'\)"):
        paired(tmp_path)


def test_a_result_that_another_folder_lacks_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "2.png")
    fill(tmp_path / "a", "1.png", "2.png")
    fill(tmp_path / "b", "1.png")
    with pytest.raises(UserError, match=r"--results .*b lacks 1 of the others' images \('2'\)"):
        paired(tmp_path, results=("a", "b"))


def test_what_is_left_out_on_purpose_is_listed(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "2.png", "3.png")
    fill(tmp_path / "a", "1.png", "2.png", "extra.png")
    fill(tmp_path / "b", "1.png", "extra.png")
    pairing = paired(tmp_path, results=("a", "b"), allow_missing=True)
    assert [item.name for item in pairing.items] == ["1"]
    assert pairing.left_out == {"b": ("2",), "ground truth": ("extra",), "all results": ("2", "3")}


def test_nothing_in_common_is_an_error_even_so(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png")
    fill(tmp_path / "a", "2.png")
    with pytest.raises(UserError, match="no image is in all"):
        paired(tmp_path, allow_missing=True)


def test_the_suffix_in_the_way_is_suggested(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png")
    fill(tmp_path / "a", "1_derained.png")
    with pytest.raises(UserError, match="--strip_suffix _derained"):
        paired(tmp_path)
    pairing = paired(tmp_path, without_suffixes(["_derained"]))
    assert found(pairing) == {"1_derained.png": "1.png"}
    assert pairing.items[0].name == "1_derained"
    assert "'_derained'" in pairing.rule


@pytest.mark.parametrize("rule", [
    without_suffixes(["_rain_*", "_leftImg8bit"]),
    by_pattern(r"^(.+?)_(?:rain_.*|leftImg8bit)$"),
    by_pattern(r"[a-z]+_\d{6}_\d{6}"),
])  # fmt: skip
def test_rainy_versions_share_their_scene(tmp_path: Path, rule: NameRule) -> None:
    fill(tmp_path / "gt", *(f"{scene}_leftImg8bit.png" for scene in SCENES))
    fill(tmp_path / "a", *(f"{scene}_{rain}.png" for scene in SCENES for rain in RAIN))
    pairing = paired(tmp_path, rule)
    assert found(pairing) == {f"{s}_{r}.png": f"{s}_leftImg8bit.png" for s in SCENES for r in RAIN}
    assert pairing.images_per_target == (2, 2)


def test_raincityscapes_names_pair_by_themselves_under_its_protocol(tmp_path: Path) -> None:
    gt = read_folder(fill(tmp_path / "gt", f"{SCENES[0]}_leftImg8bit.png"), flag="--gt")
    results = read_folder(fill(tmp_path / "a", f"{SCENES[0]}_{RAIN[0]}.png"), flag="--results")
    rule = default_rule("raincityscapes", [results], gt)
    assert [*map(rule.key, [*results.images, *gt.images])] == [SCENES[0], SCENES[0]]
    assert default_rule("rgb", [results], gt).description == same_names().description


def test_prepared_pairs_of_raincityscapes_keep_their_names(tmp_path: Path) -> None:
    names = [f"{SCENES[0]}_{rain}.png" for rain in RAIN]
    gt, results = (read_folder(fill(tmp_path / side, *names), flag="--gt") for side in ("gt", "a"))
    assert default_rule("raincityscapes", [results], gt).description == same_names().description


def test_inputs_decide_which_clean_scenes_belong_to_the_test(tmp_path: Path) -> None:
    names = [f"{SCENES[0]}_{rain}.png" for rain in RAIN]
    rule = without_suffixes(["_rain_*", "_leftImg8bit"])
    fill(tmp_path / "gt", *(f"{scene}_leftImg8bit.png" for scene in SCENES))
    fill(tmp_path / "a", *names)
    with pytest.raises(UserError, match=SCENES[1]):
        paired(tmp_path, rule)
    fill(tmp_path / "in", *names)
    pairing = paired(tmp_path, rule, inputs=True)
    assert len(pairing.items) == 2 and pairing.unused_targets == 1
    (tmp_path / "a" / names[1]).unlink()
    with pytest.raises(UserError, match=r"--results .*a lacks 1"):
        paired(tmp_path, rule, inputs=True)


def test_inputs_do_not_excuse_a_missing_partner_of_one_to_one_names(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "2.png")
    for side in ("a", "in"):
        fill(tmp_path / side, "1.png")
    with pytest.raises(UserError, match="'2'"):
        paired(tmp_path, inputs=True)


def test_two_ground_truths_for_one_image_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "gt", "1.png", "1_gt.png")
    fill(tmp_path / "a", "1.png")
    with pytest.raises(UserError, match=r"'1\.png' and '1_gt\.png' both pair as '1'"):
        paired(tmp_path, without_suffixes(["_gt"]))


def test_results_pair_with_inputs_of_other_names(tmp_path: Path) -> None:
    for side, ending in (("gt", ""), ("in", "_rainy"), ("a", "_out"), ("b", "_x2_SR")):
        fill(tmp_path / side, *(f"{number}{ending}.png" for number in range(3)))
    rule = without_suffixes(["_rainy", "_out", "_x2_SR"])
    pairing = paired(tmp_path, rule, results=("a", "b"), inputs=True)
    assert [path.name for path in pairing.items[1].images.values()] == ["1_rainy.png", "1_out.png", "1_x2_SR.png"]


@pytest.mark.parametrize("suffixes", [["*"], [""], ["*_x"]])
def test_suffixes_that_take_all_are_refused(suffixes: list[str]) -> None:
    with pytest.raises(UserError, match="--strip_suffix"):
        without_suffixes(suffixes)


def test_a_suffix_takes_neither_the_whole_name_nor_folders() -> None:
    key = without_suffixes(["_a*"]).key
    assert [key("_a1"), key("x_a1"), key("x_all/y"), key("d/_a1")] == ["_a1", "x", "x_all/y", "d/_a1"]


def test_mistakes_in_a_pattern_are_told() -> None:
    with pytest.raises(UserError, match="no regular expression"):
        by_pattern("(")
    with pytest.raises(UserError, match="does not match the name 'rain'"):
        by_pattern(r"\d+").key("rain")


def test_our_own_results_bring_inputs_and_ground_truth(tmp_path: Path) -> None:
    run = tmp_path / "results" / "rcs" / "test_latest"
    for label in ("real_A", "fake_B", "real_B"):
        fill(run / "images" / label, "1.png")
    results = find_results(run, label="rcs")
    assert (results.output.path, results.input, results.target) == tuple(
        run / "images" / label for label in ("fake_B", "real_A", "real_B")
    )


def test_labels_are_short_and_different(tmp_path: Path) -> None:
    ours = [tmp_path / "results" / run / "test_latest" for run in ("a", "b")]
    for path in ours:
        (path / "images" / "fake_B").mkdir(parents=True)
    assert labels_for([*ours, tmp_path / "prenet"]) == ["a", "b", "prenet"]
    assert labels_for([tmp_path / "x" / "out", tmp_path / "y" / "out"]) == ["x/out", "y/out"]


@pytest.mark.parametrize(("name", "message"), [("none", "is no folder"), ("empty", "holds no images")])
def test_folders_without_images_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty" / ".cache").mkdir(parents=True)
    fill(tmp_path / "empty" / ".cache", "1.png")
    with pytest.raises(UserError, match=f"--gt .*{name}: {message}"):
        read_folder(tmp_path / name, flag="--gt")
