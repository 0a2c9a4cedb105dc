"""Every published layout is understood, and what is wrong with a source is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.published import Request, prepare
from data.published.layouts import (
    Expected,
    FolderPairs,
    Layout,
    Rain100H,
    Rain100L,
    Rain800,
    Rain1400,
    RainCityscapes,
    Spa,
)
from data.published.layouts.raincityscapes import Scenes
from data.published.splitting import Share, SplitRule
from tests import preparation_miniatures as mini
from util.errors import UserError

PAIRS = Expected(train=(6,), test=(3,))
SMALL_RAINCITYSCAPES = RainCityscapes(
    rule=SplitRule(rainy=7, test=5),
    scenes=Scenes(mini.SCENES["train"], mini.SCENES["test"], frozenset(mini.VERSIONS)),
)
SMALL_SPA = Spa(expected=Expected(train=(12,), test=(4,)), rule=SplitRule(rainy=4, clean=2, test=2))


def names(folder: Path, part: str) -> list[str]:
    return sorted(path.name for path in (folder / part).iterdir())


def run(tmp_path: Path, name: str, layout: Layout, *sources: Path, request: Request | None = None) -> Path:
    out = tmp_path / "out"
    prepare(name, layout, sources, out, request)
    return out


def same_test_names(out: Path) -> list[str]:
    assert names(out, "testA") == names(out, "testB")
    return names(out, "testA")


def test_raincityscapes_of_daf_net(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "RainCityscapes", mini.raincityscapes())
    out = run(tmp_path, "raincityscapes", SMALL_RAINCITYSCAPES, source)
    assert len(names(out, "trainA")) == 7
    assert names(out, "trainB") == [f"aachen_{n:06d}_000019.png" for n in (1, 3, 5)]
    assert {name[:20] for name in names(out, "trainA")} == {f"aachen_{n:06d}_000019" for n in (0, 2, 4)}
    assert len(same_test_names(out)) == 5


def test_raincityscapes_test_pairs_show_the_same_scene(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "RainCityscapes", mini.raincityscapes())
    out = run(tmp_path, "raincityscapes", SMALL_RAINCITYSCAPES, source)
    for name in same_test_names(out):
        scene, version = name.removesuffix(".png").split("_rain_")
        assert (out / "testA" / name).read_bytes() == mini.picture(scene + version, bright=40)
        assert (out / "testB" / name).read_bytes() == mini.picture(scene)


def test_raincityscapes_of_cityscapes_gives_the_same_files(tmp_path: Path) -> None:
    rain, clean = mini.raincityscapes_official()
    archives = [
        mini.as_zip(tmp_path / "leftImg8bit_trainval_rain.zip", rain),
        mini.as_zip(tmp_path / "leftImg8bit_trainvaltest.zip", clean),
    ]
    folder = mini.as_folder(tmp_path / "RainCityscapes", mini.raincityscapes())
    official = prepare("raincityscapes", SMALL_RAINCITYSCAPES, archives, tmp_path / "a")
    unofficial = prepare("raincityscapes", SMALL_RAINCITYSCAPES, [folder], tmp_path / "b")
    assert official.sha256 == unofficial.sha256


def test_raincityscapes_in_full(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "RainCityscapes", mini.raincityscapes())
    out = run(tmp_path, "raincityscapes", SMALL_RAINCITYSCAPES, source, request=Request(full=True))
    assert (len(names(out, "trainA")), len(names(out, "testA"))) == (3 * len(mini.VERSIONS), 2 * len(mini.VERSIONS))


def test_raincityscapes_without_cityscapes_says_what_to_add(tmp_path: Path) -> None:
    rain, _ = mini.raincityscapes_official()
    source = mini.as_zip(tmp_path / "leftImg8bit_trainval_rain.zip", rain)
    with pytest.raises(UserError, match=r"8 scene\(s\) have no clean image.*leftImg8bit_trainvaltest\.zip"):
        run(tmp_path, "raincityscapes", SMALL_RAINCITYSCAPES, source)


def test_raincityscapes_names_missing_scenes_and_versions(tmp_path: Path) -> None:
    files = mini.raincityscapes()
    gone, partial = mini.SCENES["train"][1], mini.SCENES["train"][2]
    files = {n: c for n, c in files.items() if not (n.startswith("train/") and gone in n)}
    del files[f"train/{partial}_rain_{mini.VERSIONS[0]}.png"]
    source = mini.as_folder(tmp_path / "RainCityscapes", files)
    with pytest.raises(UserError) as error:
        run(tmp_path, "raincityscapes", SMALL_RAINCITYSCAPES, source)
    assert f"1 scene(s) have no rainy image ('{gone}')" in str(error.value)
    assert f"1 scene(s) have fewer than 6 rainy versions ('{partial}')" in str(error.value)
    assert not (tmp_path / "out").exists()


def rain100l_variants() -> dict[str, mini.Files]:
    training, testing = mini.rain100l_original()
    rcdnet = {}
    for name, content in mini.rain100_authors().items():
        phase = "train" if "train" in name else "test"
        rcdnet[f"Rain100L/{phase}/small/{'norain' if '/norain/' in name else 'rain'}/{Path(name).name}"] = content
    both = {**mini.rain100_authors(), **mini.rain100_authors("Heavy", train=5, test=2)}
    return {"original": {**training, **testing}, "authors": mini.rain100_authors(), "rcdnet": rcdnet, "both": both}


@pytest.mark.parametrize("variant", list(rain100l_variants()))
def test_rain100l_in_every_packaging_gives_the_same_files(tmp_path: Path, variant: str) -> None:
    source = mini.as_folder(tmp_path / "data", rain100l_variants()[variant])
    out = run(tmp_path, "rain100l", Rain100L(expected=PAIRS), source)
    assert names(out, "trainA") == ["0001.png", "0003.png", "0005.png"]
    assert names(out, "trainB") == ["0002.png", "0004.png", "0006.png"]
    assert same_test_names(out) == ["0001.png", "0002.png", "0003.png"]
    assert (out / "trainA" / "0003.png").read_bytes() == mini.rainy("l3")
    assert (out / "trainB" / "0004.png").read_bytes() == mini.picture("l4")
    assert (out / "testA" / "0002.png").read_bytes() == mini.rainy("t2")
    assert (out / "testB" / "0002.png").read_bytes() == mini.picture("t2")


def test_rain100h_scenes_come_under_several_numbers_and_some_are_test_scenes(tmp_path: Path) -> None:
    """Of the published 1800 training pairs, 546 show test scenes (PReNet's readme); numbers do not tell."""
    shown = ["x", "y", "t1", "x", "y", "z", "t2"]
    files = mini.rain100_authors("Heavy", train=len(shown), test=3)
    for number, scene in enumerate(shown, start=1):
        files[f"rain_data_train_Heavy/norain/norain-{number}.png"] = mini.picture(scene)
    source = mini.as_zip(tmp_path / "heavy.zip", files)
    layout = Rain100H(expected=Expected(train=(7,), test=(3,)))
    prepared = prepare("rain100h", layout, [source], tmp_path / "out")
    assert prepared.counts == {"trainA": 3, "trainB": 1, "testA": 3, "testB": 3}
    assert names(tmp_path / "out", "trainA") == ["0001.png", "0004.png", "0006.png"]  # x, x, z
    assert names(tmp_path / "out", "trainB") == ["0002.png"]  # y, once
    assert "2 of 7 training pairs left out" in prepared.notes[0]


def test_the_later_release_of_rain100l_is_named(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "data", mini.rain100_authors(test=200))
    with pytest.raises(UserError, match=r"200 test pairs instead of 3.*known as Rain200L"):
        run(tmp_path, "rain100l", Rain100L(expected=PAIRS), source)


def test_rain1400(tmp_path: Path) -> None:
    source = mini.as_zip(tmp_path / "rainy_image_dataset.zip", mini.rain1400())
    out = run(tmp_path, "rain1400", Rain1400(expected=Expected(train=(56,), test=(28,))), source)
    assert names(out, "trainA") == [f"{scene:04d}_{v:02d}.jpg" for scene in (1, 3) for v in range(1, 15)]
    assert names(out, "trainB") == ["0002.jpg", "0004.jpg"]
    assert len(same_test_names(out)) == 28
    assert (out / "testA" / "0902_14.jpg").read_bytes() == mini.picture("902_14", "JPEG")
    assert (out / "testB" / "0902_14.jpg").read_bytes() == mini.picture("902", "JPEG")


def test_rain1400_without_division_tests_on_the_last_hundred(tmp_path: Path) -> None:
    files = {
        name.replace("training/", "").replace("testing/", "").replace("rainy_image/", "rainy image/"): content
        for name, content in mini.rain1400().items()
    }
    source = mini.as_folder(tmp_path / "rainy_image_dataset", files)
    out = run(tmp_path, "rain1400", Rain1400(expected=Expected(train=(56,), test=(28,))), source)
    assert {name[:4] for name in same_test_names(out)} == {"0901", "0902"}


def pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def test_rain800_is_cut_in_two(tmp_path: Path) -> None:
    source = mini.as_zip(tmp_path / "IDCGAN.zip", mini.rain800())
    out = run(tmp_path, "rain800", Rain800(expected=Expected(train=(4,), test=(2,))), source)
    assert (names(out, "trainA"), names(out, "trainB")) == (["0001.png", "0003.png"], ["0002.png", "0004.png"])
    assert len(same_test_names(out)) == 2
    (tmp_path / "rainy.png").write_bytes(mini.rainy("test_syn2"))
    (tmp_path / "clean.png").write_bytes(mini.picture("test_syn2"))
    assert pixels(out / "testA" / "0002.png") == pixels(tmp_path / "rainy.png")
    assert pixels(out / "testB" / "0002.png") == pixels(tmp_path / "clean.png")


def test_rain800_with_the_rain_on_the_left(tmp_path: Path) -> None:
    source = mini.as_zip(tmp_path / "IDCGAN.zip", mini.rain800())
    layout = Rain800(expected=Expected(train=(4,), test=(2,)), rainy_half="left")
    out = run(tmp_path, "rain800", layout, source)
    (tmp_path / "left.png").write_bytes(mini.picture("test_syn2"))
    assert pixels(out / "testA" / "0002.png") == pixels(tmp_path / "left.png")


@pytest.mark.parametrize("with_lists", [True, False])
def test_spa_with_and_without_its_lists(tmp_path: Path, with_lists: bool) -> None:
    files = {name: content for name, content in mini.spa().items() if with_lists or not name.endswith(".txt")}
    source = mini.as_folder(tmp_path / "spa", files)
    out = run(tmp_path, "spa", SMALL_SPA, source)
    assert {name[:3] for name in names(out, "trainA")} == {"000", "002"}
    assert len(names(out, "trainA")) == 4
    assert names(out, "trainB") == ["001_0_8.png", "003_0_8.png"]
    assert same_test_names(out) == ["0000.png", "0002.png"]
    for name, number in (("0000.png", 0), ("0002.png", 2)):
        assert (out / "testA" / name).read_bytes() == mini.rainy(f"test{number}")
        assert (out / "testB" / name).read_bytes() == mini.picture(f"test{number}")


def test_spa_from_four_downloads(tmp_path: Path) -> None:
    files = mini.spa()
    train = {name: content for name, content in files.items() if name.startswith("real_world") and "/" in name}
    test = {name: content for name, content in files.items() if name.startswith("real_test_1000/")}
    for name in ("real_world.txt", "real_test_1000.txt"):
        (tmp_path / name).write_bytes(files[name])
    sources = [
        mini.as_zip(tmp_path / "real_world.zip", train),
        tmp_path / "real_world.txt",
        mini.as_zip(tmp_path / "real_test_1000.zip", test),
        tmp_path / "real_test_1000.txt",
    ]
    whole = mini.as_folder(tmp_path / "spa", files)
    assert prepare("spa", SMALL_SPA, sources, tmp_path / "a").sha256 == (
        prepare("spa", SMALL_SPA, [whole], tmp_path / "b").sha256
    )


def test_spa_with_the_repacked_test_set(tmp_path: Path) -> None:
    files = {name: content for name, content in mini.spa().items() if not name.startswith("real_test")}
    for number in range(1, 5):
        files[f"test/small/rain/norain-{number}.png"] = mini.rainy(f"test{number}")
        files[f"test/small/norain/norain-{number}.png"] = mini.picture(f"test{number}")
    out = run(tmp_path, "spa", SMALL_SPA, mini.as_folder(tmp_path / "data", files))
    assert same_test_names(out) == ["0001.png", "0003.png"]
    assert (out / "testB" / "0003.png").read_bytes() == mini.picture("test3")


def test_spa_names_the_files_of_the_list_that_are_missing(tmp_path: Path) -> None:
    files = mini.spa()
    del files["real_test_1000/gt/001gt.png"]
    with pytest.raises(UserError, match=r"1 line\(s\) of 'spa/real_test_1000.txt' name files.*001gt"):
        run(tmp_path, "spa", SMALL_SPA, mini.as_folder(tmp_path / "spa", files))


def own_pairs(count: int = 10) -> mini.Files:
    clean = {f"clean/street{n}.png": mini.picture(f"o{n}") for n in range(count)}
    return clean | {f"rainy/street{n}.png": mini.rainy(f"o{n}") for n in range(count)}


def test_folder_pairs_hold_out_a_tenth(tmp_path: Path) -> None:
    out = run(tmp_path, "folder-pairs", FolderPairs(), mini.as_folder(tmp_path / "mine", own_pairs()))
    assert same_test_names(out) == ["street0.png"]
    assert names(out, "trainA") == [f"street{n}.png" for n in (1, 3, 5, 7, 9)]
    assert names(out, "trainB") == [f"street{n}.png" for n in (2, 4, 6, 8)]


def test_folder_pairs_keep_a_division_that_is_there(tmp_path: Path) -> None:
    files = {f"{'test' if '3' in name else 'train'}/{name}": content for name, content in own_pairs().items()}
    out = run(tmp_path, "folder-pairs", FolderPairs(), mini.as_folder(tmp_path / "mine", files))
    assert same_test_names(out) == ["street3.png"]


def test_folder_pairs_with_endings_and_several_versions(tmp_path: Path) -> None:
    files = {f"clean/s{n}_clean.png": mini.picture(f"o{n}") for n in range(4)}
    files |= {f"rainy/s{n}_rain{v}.png": mini.picture(f"r{n}{v}") for n in range(4) for v in (1, 2)}
    layout = FolderPairs(rainy_suffix="_rain*", clean_suffix="_clean", test=Share(1))
    out = run(tmp_path, "folder-pairs", layout, mini.as_folder(tmp_path / "mine", files))
    assert same_test_names(out) == ["s0_rain1.png", "s0_rain2.png"]
    assert (out / "testB" / "s0_rain2.png").read_bytes() == mini.picture("o0")


def test_two_folders_of_any_name_are_rainy_and_clean_in_this_order(tmp_path: Path) -> None:
    wet = mini.as_folder(tmp_path / "wet", {f"{n}.png": mini.rainy(f"o{n}") for n in range(4)})
    dry = mini.as_folder(tmp_path / "dry", {f"{n}.png": mini.picture(f"o{n}") for n in range(4)})
    out = run(tmp_path, "folder-pairs", FolderPairs(), wet, dry)
    assert (out / "testA" / "0.png").read_bytes() == mini.rainy("o0")
    assert (out / "testB" / "0.png").read_bytes() == mini.picture("o0")


def test_folder_pairs_name_what_has_no_partner(tmp_path: Path) -> None:
    files = own_pairs()
    del files["clean/street4.png"], files["rainy/street5.png"]
    with pytest.raises(UserError) as error:
        run(tmp_path, "folder-pairs", FolderPairs(), mini.as_folder(tmp_path / "mine", files))
    assert "1 rainy image(s) have no clean one ('mine/rainy/street4.png')" in str(error.value)
    assert "1 clean image(s) have no rainy one ('mine/clean/street5.png')" in str(error.value)
