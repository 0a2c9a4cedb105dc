"""More than 400 hostile files (tests/hostile_corpus.py) through every door that files come in by.

Each door gets each of them: an exit code of 0 or 2, no traceback, one sentence that names the file where it is refused,
nothing written outside of the output folder, and an end. The doors that take a folder and leave out what is bad get all
at once; the others get each file alone, a third of them in the usual run and all in the heavy one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

import pytest

import test as test_program
import train as train_program
from models.networks import create_generator
from scripts import compare, evaluate, prepare_dataset, synthesize_rain
from tests.conftest import QUIET
from tests.hostile_corpus import PHOTO, PNG, Hostile, Placed, corpus, place
from tests.hostile_world import Said, World, woken
from util.engine.weights import save_nets
from util.errors import UserError, one_line
from util.pages.manifest import Column, ResultManifest, Row, save_manifest
from util.pictures import UnreadablePicture, picture_size, read_picture

LEAST = 200
"""Hostile files that there must be."""

TINY = ("--netG", "resnet_6blocks", "--ngf", "1")
NOBODY = 65534
"""The user that may do nothing."""

ALL = corpus()
LISTED = [hostile for hostile in ALL if hostile.listed]


@pytest.fixture(autouse=True)
def _pillow_wonders() -> Iterator[None]:
    """What Pillow remarks about broken files is for the console, which these tests look at, and not for pytest's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def share(door: int) -> list[Hostile]:
    """A third of the files, another one for each door, so that the doors together see all."""
    return [hostile for number, hostile in enumerate(ALL) if number % 3 == door % 3]


def every(door: int) -> pytest.MarkDecorator:
    """A third of the files, or all of them in the heavy run."""
    usual, whole = pytest.param(share(door), id="a third"), pytest.param(ALL, id="all", marks=pytest.mark.heavy)
    return pytest.mark.parametrize("hostiles", [usual, whole])


def has_header(path: Path) -> bool:
    with contextlib.suppress(UnreadablePicture):
        return bool(picture_size(path))
    return False


def has_picture(path: Path) -> bool:
    with contextlib.suppress(UnreadablePicture):
        return bool(read_picture(path))
    return False


def names(message: str, placed: Placed) -> bool:
    """Whether a sentence names the file."""
    return one_line(placed.hostile.name) in message or one_line(repr(placed.hostile.name)[1:-1]) in message


def left_out_of(said: Said, placed: Placed) -> list[str]:
    """What was said of leaving this file out."""
    return [line for line in said.err.splitlines() if f"/{placed.path.parent.name}/" in line and "--skip_bad" in line]


def test_there_are_enough() -> None:
    assert len(ALL) >= 2 * LEAST and len({(h.kind, h.name, h.picture) for h in ALL}) > LEAST
    assert {h.kind for h in ALL} >= {"truncated", "bit flipped", "false announcement", "named", "special", "unusual"}


def test_what_each_file_is_told_for_itself(world: World) -> None:
    """Pictures are read, whatever their name; of the others one sentence says what is wrong."""
    placed = place(world.root / "files", ALL)
    assert len(placed) >= LEAST
    for each in placed:
        if os.path.isdir(each.path):  # noqa: PTH112 (pathlib stumbles over links that are too long)
            continue
        with woken([each.path]) as late:
            try:
                read_picture(each.path)
                readable = True
            except UnreadablePicture as error:
                readable = False
                assert str(error).endswith(".") and "cannot be read as an image" in str(error)
                assert "\n" not in error.reason, error.reason
        assert not late
        if each.hostile.picture is not None and each.hostile.listed:
            assert readable == each.hostile.picture, each


def test_training_leaves_out_what_is_bad(world: World) -> None:
    """All of them at once in trainA; every picture is trained on, and of every other file a sentence says why not."""
    placed = place(world.root / "data" / "trainA", LISTED)
    (world.root / "data" / "trainB").mkdir()
    PHOTO.save(world.root / "data" / "trainB" / "clean.png")
    world.remember()
    said = world.call(
        train_program.main,
        *("--dataroot", "../data", "--name", "run", "--checkpoints_dir", world.out, "--model", "cut", "--skip_bad"),
        *("--n_epochs", 1, "--n_epochs_decay", 0, "--no_html", *QUIET, *TINY, "--ndf", 1, "--num_patches", 4),
        *("--load_size", 32, "--crop_size", 32, "--batch_size", 64),
    )
    assert said.code == 0
    for each in placed:
        left_out = left_out_of(said, each)
        if each.hostile.picture:
            assert not left_out, each
        elif each.hostile.picture is False:
            assert left_out and all(names(line, each) for line in left_out), each


@pytest.fixture
def weights(world: World) -> Path:
    """A generator of one channel."""
    folder = world.root / "checkpoints" / "run"
    folder.mkdir(parents=True)
    save_nets({"G": create_generator("resnet_6blocks", 3, 3, 1)}, folder, "latest")
    return folder / "latest_net_G.pth"


def outputs(folder: Path) -> set[str]:
    """The numbers of the corpus's files that have a result."""
    return {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}


def check_left_out(said: Said, placed: Sequence[Placed], done: set[str]) -> None:
    """Every picture has its result, what is none has a sentence, and what may be either has one of the two."""
    for each in placed:
        has_result, told = each.path.parent.name in done, left_out_of(said, each)
        assert has_result != bool(told), (each, told)
        assert each.hostile.picture in (None, has_result), each
        assert all(names(line, each) for line in told), told


def test_a_test_leaves_out_what_is_bad(world: World, weights: Path) -> None:
    placed = place(world.root / "data" / "testA", LISTED)
    world.remember()
    said = world.call(
        test_program.main,
        *("--dataroot", "../data", "--name", "run", "--checkpoints_dir", "../checkpoints", "--model", "cut"),
        *("--results_dir", world.out, "--gpu_ids", "-1", "--skip_bad", *TINY),
    )
    assert said.code == 0
    check_left_out(said, placed, outputs(world.out / "run" / "test_latest" / "images" / "fake_B"))


@pytest.mark.parametrize("page", [True, False], ids=["with a page", "results alone"])
def test_deraining_a_folder_leaves_out_what_is_bad(world: World, weights: Path, page: bool) -> None:
    placed = place(world.root / "photos", LISTED)
    world.remember()
    where = ["--results_dir", world.out] if page else ["--output", world.out / "derained"]
    said = world.call(
        test_program.main, "--input", "../photos", "--checkpoint", weights, "--gpu_ids", "-1", "--skip_bad", *where
    )
    assert said.code == 0
    place_of = world.out / "latest_net_G" / "photos" / "derained" if page else world.out / "derained"
    check_left_out(said, placed, outputs(place_of))


def photograph_for(placed: Placed, folder: Path) -> Path:
    """A sound photograph with the name of this file, in a folder of its own."""
    path = folder / placed.path.parent.name / PurePath(placed.hostile.name).with_suffix(".png").name
    path.parent.mkdir(parents=True)
    path.write_bytes(PNG)
    return path


@every(1)
def test_deraining_each_file_alone(world: World, weights: Path, hostiles: list[Hostile]) -> None:
    placed = place(world.root / "photos", hostiles)
    world.remember()
    to = ("--output", world.out, "--gpu_ids", "-1")
    for each in placed:
        said = world.call(test_program.main, f"--input={each.path}", "--checkpoint", weights, *to)
        if each.hostile.picture is not None and each.hostile.listed:
            assert (said.code == 0) == each.hostile.picture, (each, said)
        assert said.code == 0 or names(said.errors[0], each), said
        world.empty()


@every(2)
def test_training_names_each_file(world: World, hostiles: list[Hostile], monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at the start: every header is looked at before anything is built or written."""

    def stop(*_: object, **__: object) -> None:
        raise UserError("the images were accepted.")

    monkeypatch.setattr("train.create_model", stop)
    placed = place(world.root / "data", hostiles, inside="trainA")
    for each in placed:
        clean = each.path.parents[1] / "trainB"
        clean.mkdir()
        (clean / "clean.png").write_bytes(PNG)
    world.remember()
    for each in placed:
        said = world.call(
            train_program.main,
            "--dataroot",
            each.path.parents[1],
            "--checkpoints_dir",
            world.out,
            "--model",
            "cut",
            *QUIET,
        )
        if "the images were accepted" in said.errors[0]:
            assert each.hostile.picture is not False or has_header(each.path), each
        else:
            assert not each.hostile.picture or not each.hostile.listed, each
            assert names(said.errors[0], each) or str(each.path.parent) in said.errors[0], said
        assert not list(world.out.iterdir())


@every(0)
def test_evaluating_each_file(world: World, hostiles: list[Hostile]) -> None:
    placed = place(world.root / "results", hostiles)
    truth = {each.path: photograph_for(each, world.root / "truth") for each in placed}
    world.remember()
    for each in placed:
        gt = truth[each.path].parent
        said = world.call(
            evaluate.main, "--results", each.path.parent, "--gt", gt, "--out", world.out / "table", "--workers", 1
        )
        if each.hostile.picture is False:
            assert said.code == 2, each
        if said.code == 2:
            assert names(said.errors[0], each) or str(each.path.parent) in said.errors[0], said
            assert not list(world.out.iterdir())
        world.empty()


@every(1)
def test_raining_on_each_file(world: World, hostiles: list[Hostile]) -> None:
    placed = place(world.root / "clean", hostiles)
    world.remember()
    for each in placed:
        said = world.call(
            synthesize_rain.main, "--clean", each.path.parent, "--out", world.out / "rain", "--workers", 1, "--size", 16
        )
        if each.hostile.picture is not None and each.hostile.listed:
            assert (said.code == 0) == each.hostile.picture, (each, said)
        if said.code == 2:
            assert names(said.errors[0], each) or str(each.path.parent) in said.errors[0], said
            assert not list(world.out.iterdir())
        world.empty()


@every(2)
def test_depth_from_each_file(world: World, hostiles: list[Hostile]) -> None:
    """The same files as depth for a photograph: few are of one channel, and the others are named."""
    placed = place(world.root / "depth", hostiles)
    photographs = {each.path: photograph_for(each, world.root / "clean") for each in placed}
    world.remember()
    for each in placed:
        clean = photographs[each.path]
        said = world.call(
            synthesize_rain.main,
            *("--clean", clean.parent, "--depth", each.path.parent, "--out", world.out / "rain", "--workers", 1),
        )
        assert said.code == 0 or names(said.errors[0], each) or str(each.path.parent) in said.errors[0], said
        world.empty()


@every(0)
def test_preparing_each_file(world: World, hostiles: list[Hostile]) -> None:
    """Pairs of each file with itself: rainy and clean."""
    rainy, clean = (place(world.root / side, hostiles) for side in ("rainy", "clean"))
    world.remember()
    for each, other in zip(rainy, clean, strict=True):
        folders = (each.path.parent, other.path.parent)
        said = world.call(prepare_dataset.main, "folder-pairs", "--source", *folders, "--out", world.out / "set")
        if each.hostile.picture is False and each.hostile.listed and each.hostile.kind != "unusual":
            assert said.code == 2, each  # pixels without a known range are the training's concern
        if said.code == 2:
            assert names(said.errors[0], each) or str(each.path.parent) in said.errors[0], said
        assert all(
            path.is_relative_to(world.out / "set") or path.name.startswith(".set") for path in world.out.iterdir()
        )
        world.empty()


@every(0)
def test_comparing_results_of_each_file(world: World, hostiles: list[Hostile]) -> None:
    """Manifests of two runs that name each file as their output; with --copy only pictures are given away."""
    placed = place(world.root / "results", hostiles)
    for each in placed:
        manifest = ResultManifest(
            title="run",
            columns=(Column("real_A", "rainy"), Column("fake_B", "derained")),
            rows=(Row("one", {"real_A": each.hostile.name, "fake_B": each.hostile.name}),),
            before="real_A",
            after="fake_B",
        )
        with contextlib.suppress(ValueError):
            save_manifest(each.path.parent, manifest)
    world.remember()
    for each in placed:
        for copying in ((), ("--copy",)):
            world.call(
                compare.main,
                each.path.parent,
                each.path.parents[1] / "000",
                "--names",
                "a",
                "b",
                *copying,
                *("--out", world.out / "comparison"),
            )
            world.empty()


@pytest.fixture
def open_world() -> Iterator[World]:
    """One that everybody may write to, with an image on either side."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(os.path.realpath(folder))
        for part in ("out", "data/trainA", "data/trainB"):
            (root / part).mkdir(parents=True)
        (root / "data" / "trainB" / "clean.png").write_bytes(PNG)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        yield World(root)
        for path in (root / "data").rglob("*"):
            if not path.is_symlink():
                path.chmod(0o777)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights, which are to read whatever there is."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system keeps permissions in another way")
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def _locked_file(folder: Path) -> None:
    (folder / "x.png").write_bytes(PNG)
    (folder / "x.png").chmod(0)


def _locked_folder(folder: Path) -> None:
    (folder / "x.png").mkdir(mode=0)


def _behind_a_locked_folder(folder: Path) -> None:
    hidden = folder.parent / "hidden"
    hidden.mkdir()
    (hidden / "good.png").write_bytes(PNG)
    (folder / "x.png").symlink_to(hidden / "good.png")
    hidden.chmod(0)


def _listed_but_closed(folder: Path) -> None:
    (folder / "x.png").mkdir()
    (folder / "x.png" / "inside.png").write_bytes(PNG)
    (folder / "x.png").chmod(0o444)


@pytest.mark.parametrize("lock", [_locked_file, _locked_folder, _behind_a_locked_folder, _listed_but_closed])
def test_what_may_not_be_read_is_named(open_world: World, lock: Callable[[Path], None]) -> None:
    folder = open_world.root / "data" / "trainA"
    to = open_world.out / "x"

    def refused() -> None:
        for main, *argv in (
            (train_program.main, "--dataroot", folder.parent, "--checkpoints_dir", to, "--model", "cut", *QUIET),
            (synthesize_rain.main, "--clean", folder, "--out", to, "--workers", 1),
            (evaluate.main, "--results", folder, "--gt", folder, "--out", to, "--workers", 1),
            (prepare_dataset.main, "folder-pairs", "--source", folder, folder.with_name("trainB"), "--out", to),
        ):
            said = open_world.call(main, *argv)
            assert said.code == 2 and ("x.png" in said.errors[0] or str(folder) in said.errors[0]), said
            assert not to.exists()

    (folder / "x.png").symlink_to("x.png")
    refused()  # so that all is imported, which nobody may perhaps not do
    (folder / "x.png").unlink()
    with nobody():
        lock(folder)
        refused()


@pytest.mark.parametrize("flag", ["--dataroot", "--checkpoints_dir", "--config", "--cache_dir"])
def test_a_folder_that_may_not_be_entered(open_world: World, flag: str) -> None:
    (open_world.root / "data" / "trainA" / "rainy.png").write_bytes(PNG)
    flags = ("--dataroot", open_world.root / "data", "--checkpoints_dir", open_world.out, "--model", "cut")

    def refused(place: Path) -> None:
        said = open_world.call(train_program.main, *flags, "--cache", "disk", *QUIET, *TINY, flag, place)
        assert said.code == 2 and str(place.parent) in said.errors[0], said

    (open_world.root / "file").touch()
    refused(open_world.root / "file" / "x")
    with nobody():
        locked = open_world.root / "locked"
        locked.mkdir(mode=0)
        refused(locked / "x")
