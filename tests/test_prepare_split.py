"""Who trains, who validates, who tests."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from data.published.layouts.raincityscapes import Scenes
from data.published.members import Member, Pair, Picture
from data.published.splitting import Share, SplitRule, evenly_spaced, make_split
from util.errors import UserError


def pairs(scenes: int, versions: int, letter: str = "s") -> list[Pair]:
    result = []
    for scene in (f"{letter}{number:03d}" for number in range(scenes)):
        clean = Picture(Member(0, "x", f"{scene}.png", 1))
        for version in range(versions):
            name = f"{scene}_{version:02d}"
            result.append(Pair(name, Picture(Member(0, "x", f"{name}.png", 1)), clean, scene, scene, scene))
    return result


@pytest.mark.parametrize(("total", "count"), [(9432, 1400), (1188, 175), (10, 3), (7, 7)])
def test_evenly_spaced_is_the_documented_formula(total: int, count: int) -> None:
    assert evenly_spaced(range(total), count) == [math.floor(i * total / count) for i in range(count)]


def test_asking_for_more_than_there_is_gives_all() -> None:
    assert evenly_spaced("abc", 5) == ["a", "b", "c"]
    assert evenly_spaced("abc", None) == ["a", "b", "c"]


def test_no_scene_is_on_both_sides() -> None:
    split = make_split(pairs(9, 4), pairs(3, 4, "t"), SplitRule())
    rainy, clean = ({pair.scene for pair in side} for side in (split.rainy, split.clean))
    assert not rainy & clean
    assert (len(rainy), len(clean)) == (5, 4)
    assert len(split.rainy) == 5 * 4
    assert len(split.clean) == 4  # each clean image once, however many rainy versions it has


def test_raincityscapes_gives_1400_rainy_131_clean_175_test() -> None:
    scenes = Scenes.published()
    assert (len(scenes.train), len(scenes.test), len(scenes.versions)) == (262, 33, 36)
    split = make_split(pairs(262, 36), pairs(33, 36, "t"), SplitRule(rainy=1400, test=175))
    assert (len(split.rainy), len(split.clean), len(split.test)) == (1400, 131, 175)
    assert len({pair.name for pair in split.rainy}) == 1400
    assert split.scenes() == {"trainA": 131, "trainB": 131, "test": 33}
    per_version = Counter(pair.name[-2:] for pair in split.rainy)
    assert len(per_version) == 36
    assert min(per_version.values()) >= 30  # 1400 / 36 = 38.9: all kinds of rain alike


@pytest.mark.parametrize(("val", "count"), [("140", 140), ("0.1", 140), ("1", 1)])
def test_validation_shares_no_scene_with_training_or_test(val: str, count: int) -> None:
    rule = SplitRule(rainy=1400, test=175)
    split = make_split(pairs(262, 36), pairs(33, 36, "t"), rule, Share.parse(val, "--val"))
    held_out = {pair.scene for pair in split.val}
    assert len(split.val) == count
    assert not held_out & {pair.scene for pair in (*split.rainy, *split.clean, *split.test)}
    assert len(split.rainy) == 1400


def test_validation_of_one_to_one_pairs_takes_as_many_scenes() -> None:
    split = make_split(pairs(200, 1), pairs(100, 1, "t"), SplitRule(), Share.parse("0.1", "--val"))
    assert (len(split.val), len(split.rainy), len(split.clean), len(split.test)) == (20, 90, 90, 100)


def test_the_order_of_the_files_does_not_matter() -> None:
    train, test = pairs(9, 4), pairs(3, 4, "t")
    share = Share.parse("3", "--val")
    assert make_split(train[::-1], test[::-1], SplitRule(rainy=7), share) == make_split(
        train, test, SplitRule(rainy=7), share
    )


def test_one_scene_cannot_be_unpaired() -> None:
    with pytest.raises(UserError, match="at least 2"):
        make_split(pairs(1, 14), [], SplitRule())


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "nan"])
def test_a_share_is_a_number_or_a_fraction(text: str) -> None:
    with pytest.raises(UserError, match=f"--val {text}"):
        Share.parse(text, "--val")
