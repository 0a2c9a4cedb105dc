"""Finding images, pairing names, and what a user is told about a wrong folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.files import (
    ImageFile,
    PackedPaths,
    aligned_units,
    find_test_units,
    images_in,
    match,
    output_names,
    single_images,
)
from util.errors import UserError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def files(*names: str) -> list[ImageFile]:
    return [ImageFile(Path(name), name) for name in names]


def names_of(images: list[ImageFile]) -> list[str]:
    return [image.name for image in images]


def error_of(dataroot: Path, name: str = "trainA") -> str:
    with pytest.raises(UserError) as caught:
        images_in(dataroot, name)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    return message


def test_missing_dataroot_suggests_its_sibling(tmp_path: Path) -> None:
    (tmp_path / "raincityscapes").mkdir()
    assert "no such folder (did you mean 'raincityscapes'?)" in error_of(tmp_path / "raincityscape")


def test_dataroot_below_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"--dataroot {tmp_path / 'x' / 'y'}: there is no such folder" in error_of(tmp_path / "x" / "y")


def test_domain_folder_as_dataroot_is_recognized(tmp_path: Path) -> None:
    touch(tmp_path / "trainA" / "a.png")
    assert f"is one domain's folder; give the folder above it, '{tmp_path}'" in error_of(tmp_path / "trainA")


def test_dataroot_that_is_a_file_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "data.zip")
    assert "is a file" in error_of(tmp_path / "data.zip")


def test_folder_unpacked_into_itself_is_found(tmp_path: Path) -> None:
    touch(tmp_path / "rain" / "trainA" / "a.png")
    assert f"give '{tmp_path / 'rain'}'" in error_of(tmp_path)


def test_missing_folder_lists_what_is_there_and_the_other_phase(tmp_path: Path) -> None:
    touch(tmp_path / "testA" / "a.png", tmp_path / "readme.md")
    message = error_of(tmp_path)
    assert "no folder 'trainA' but holds 'readme.md', 'testA'" in message and "--phase, for example 'test'" in message


def test_misspelled_folder_is_suggested(tmp_path: Path) -> None:
    touch(tmp_path / "train_A" / "a.png")
    assert "(did you mean 'train_A'?)" in error_of(tmp_path)


def test_other_layouts_lead_to_their_dataset_mode(tmp_path: Path) -> None:
    touch(tmp_path / "1.png")
    assert "--dataset_mode single" in error_of(tmp_path)
    touch(tmp_path / "train" / "1.png")
    assert "--dataset_mode aligned" in error_of(tmp_path)
    with pytest.raises(UserError, match=r"no folder 'valA' \(nor 'val'\)"):
        aligned_units(tmp_path, "val", "AB")


def test_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "trainA" / "list.txt")
    message = error_of(tmp_path)
    assert "trainA' holds no image but 'list.txt'" in message and "png" in message


def test_an_empty_folder_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "trainA").mkdir()
    assert "trainA' holds no image; images are files" in error_of(tmp_path)


@pytest.mark.parametrize("phase", ["", ".", "..", "../other", "a/b", "a\\b", "/tmp", "C:x"])
def test_phase_cannot_leave_the_dataroot(tmp_path: Path, phase: str) -> None:
    with pytest.raises(UserError, match="is no folder name"):
        aligned_units(tmp_path, phase, "AB")


def test_names_match_without_extension_and_case_sensitively() -> None:
    matching = match(files("s/1.jpg", "2.png", "X.png"), files("s/1.png", "2.png", "x.png"))
    assert [(a.name, b.name) for a, b in matching.pairs] == [("s/1.jpg", "s/1.png"), ("2.png", "2.png")]
    assert (matching.only_first, matching.only_second, matching.complete) == (["X.png"], ["x.png"], False)


def test_extensions_count_where_stems_repeat() -> None:
    matching = match(files("a.jpg", "a.png"), files("a.png", "a.jpg"))
    assert [(a.name, b.name) for a, b in matching.pairs] == [("a.jpg", "a.jpg"), ("a.png", "a.png")]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("a.jpg", "b/a.jpg"), ["a", "b/a"]),
        (("a.jpg", "a.png", "b.png"), ["a.jpg", "a.png", "b"]),
        (("A.jpg", "a.png"), ["A.jpg", "a.png"]),
        (("a.jpg", "a.jpg.png", "a.png"), ["a.jpg", "a.jpg.png", "a.png"]),
        (("photo.gif", "photo.gif.png"), ["photo", "photo.gif"]),
        (("\u00fc.png", "u\u0308.png"), ["\u00fc.png", "u\u0308.png~2"]),
    ],
)
def test_output_names_are_unique(found: tuple[str, ...], expected: list[str]) -> None:
    assert output_names(files(*found)) == expected


def test_names_in_different_unicode_forms_are_pairs() -> None:
    composed, decomposed = files("Stra\u00dfe_\u00fc.png", "e.png"), files("Stra\u00dfe_u\u0308.png", "e.png")
    matching = match(composed, decomposed)
    assert matching.complete and matching.pairs == list(zip(composed, decomposed, strict=True))


def test_a_folder_with_both_forms_of_a_name_compares_them_as_they_are() -> None:
    both = files("\u00fc.png", "u\u0308.png")
    assert match(both, both).pairs == [(file, file) for file in both]


def units(root: Path, eval_pairs: str, ends: tuple[str, str] = ("A", "B")) -> list[tuple[str, ...]]:
    found = find_test_units(dataroot=root, phase="test", ends=ends, eval_pairs=eval_pairs)
    return [tuple(file.path.relative_to(root).as_posix() for file in unit) for unit in found]


def test_equal_names_are_pairs_in_either_direction(tmp_path: Path) -> None:
    touch(tmp_path / "testA" / "1.jpg", tmp_path / "testB" / "1.png")
    assert units(tmp_path, "auto") == units(tmp_path, "yes") == [("testA/1.jpg", "testB/1.png")]
    assert units(tmp_path, "auto", ("B", "A")) == [("testB/1.png", "testA/1.jpg")]
    assert units(tmp_path, "no") == [("testA/1.jpg",)]


@pytest.mark.parametrize("target", [None, "other.png"])
def test_without_a_name_in_common_auto_does_not_pair(tmp_path: Path, target: str | None) -> None:
    touch(tmp_path / "testA" / "1.png")
    if target:
        touch(tmp_path / "testB" / target)
    assert units(tmp_path, "auto") == [("testA/1.png",)]
    with pytest.raises(UserError):
        units(tmp_path, "yes")


def test_names_that_have_nothing_in_common_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "testA" / "rain-001.png", tmp_path / "testB" / "norain-001.png")
    units(tmp_path, "auto")
    assert "no file name in common ('rain-001.png', 'norain-001.png'), so nothing is measured" in caplog.text


def test_partial_match_is_an_error_with_names_and_counts(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("testA/1.png", "testA/2.png", "testA/3.png", "testB/1.png", "testB/4.png")))
    with pytest.raises(UserError) as caught:
        units(tmp_path, "auto")
    message = str(caught.value)
    assert "matching file names: 1," in message and "--eval_pairs no" in message
    assert "without a partner: 2 in testA (first '2.png') and 1 in testB (first '4.png');" in message


def test_aligned_prefers_side_by_side_and_else_pairs_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "trainA" / "1.png", tmp_path / "trainB" / "1.jpg")
    ((a, b),) = aligned_units(tmp_path, "train", "AB")
    assert (a.path.parent.name, b.path.parent.name, a.part) == ("trainA", "trainB", "whole")
    touch(tmp_path / "train" / "x.png")
    ((a, b),) = aligned_units(tmp_path, "train", "BA")
    assert a.path == b.path == tmp_path / "train" / "x.png" and (a.part, b.part) == ("right", "left")


def test_aligned_refuses_unmatched_names(tmp_path: Path) -> None:
    touch(tmp_path / "trainA" / "1.png", tmp_path / "trainB" / "2.png")
    with pytest.raises(UserError, match=r"matching file names: 0, .*first '1\.png'.*--dataset_mode unaligned"):
        aligned_units(tmp_path, "train", "AB")


def test_single_takes_a_plain_folder_or_the_source_folder(tmp_path: Path) -> None:
    touch(tmp_path / "x.png")
    assert names_of(single_images(tmp_path, "train", "A")) == ["x.png"]
    touch(tmp_path / "trainA" / "y.png")
    assert names_of(single_images(tmp_path, "train", "A")) == ["y.png"]
    with pytest.raises(UserError, match="no folder 'trainB'"):
        single_images(tmp_path, "train", "B")


def test_packed_paths_are_the_paths_whatever_their_bytes() -> None:
    paths = [Path("a/b.png"), Path("é.png"), Path("bad\udcff.png")]
    packed = PackedPaths(paths)
    assert (len(packed), packed[1], packed[-1], packed[:2]) == (3, paths[1], paths[2], paths[:2])
    with pytest.raises(IndexError):
        packed[3]
