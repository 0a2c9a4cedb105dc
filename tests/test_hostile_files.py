"""More than 400 hostile files (tests/hostile_corpus.py) through every door that files come in by.

Each door gets each of them: an exit code of 0 or 2, no traceback, one sentence that names the file where it is refused,
nothing written outside of the output folder, and an end. The doors that take a folder and leave out what is bad get all
at once; the others get each file alone, a third of them in the usual run and all in the heavy one.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import test as test_program
import train as train_program
from models.networks import create_generator
from tests.conftest import QUIET
from tests.hostile_corpus import PHOTO, Hostile, Placed, corpus, place
from util.engine.checkpoint import save_nets
from util.errors import one_line
from util.pictures import UnreadablePicture, picture_size, read_picture

LEAST = 200
"""Hostile files that there must be."""

TINY = ("--netG", "resnet_6blocks", "--ngf", "1")
PATIENCE = 20.0
"""Seconds after which whoever waits at a pipe is woken up, and the test fails."""

ALL = corpus()
LISTED = [hostile for hostile in ALL if hostile.listed]

Main = Callable[[Sequence[str]], int]


@dataclass
class Said:
    """What a program answered."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The sentences of refusals."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass
class World:
    """A place to call programs in: all but ``out`` must stay as it is."""

    root: Path
    calls: int = 0
    before: dict[str, tuple] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def pipes(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.name == "pipe" or path.name == "pipe.png"]

    def snapshot(self) -> dict[str, tuple]:
        """Everything around the output, with what changes when somebody writes."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders.remove("out")
            for name in [*folders, *files]:
                facts = os.lstat(os.path.join(folder, name))  # noqa: PTH118 (in a tenth of pathlib's time)
                found[f"{folder}/{name}"] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
        return found

    def call(self, main: Main, *argv: object) -> Said:
        """Call a program as a shell does, and check what holds for every call."""
        self.calls += 1
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), woken(self.pipes) as late:
            try:
                code = main([str(part) for part in argv])
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        said = Said(code, *(stream.buffer.getvalue().decode("utf-8") for stream in self._flushed(out, err)))
        assert not late, f"hangs: {argv}"
        assert said.code in (0, 2), said
        assert "Traceback" not in said.err and "Traceback" not in said.out, said.err
        assert len(said.errors) == (said.code == 2), said.err
        assert all(line.isprintable() for line in said.err.splitlines()), said.err
        assert self.snapshot() == self.before, "something was written outside of the output folder"
        return said

    def remember(self) -> World:
        """From here on nothing may change."""
        self.before = self.snapshot()
        return self

    def empty(self) -> Path:
        """The output folder, empty again."""
        shutil.rmtree(self.out)
        self.out.mkdir()
        return self.out

    @staticmethod
    def _flushed(*streams: io.TextIOWrapper) -> tuple[io.TextIOWrapper, ...]:
        for stream in streams:
            stream.flush()
        return streams  # type: ignore[return-value]


@contextlib.contextmanager
def woken(pipes: list[Path]) -> Iterator[list[Path]]:
    """Let whoever waits at one of these pipes go on after a while; the list then is not empty."""
    late: list[Path] = []

    def wake() -> None:
        for pipe in pipes:
            late.append(pipe)
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(PATIENCE, wake)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty one, as the working folder."""
    root = tmp_path / "world"
    for part in ("out", "work"):
        (root / part).mkdir(parents=True)
    monkeypatch.chdir(root / "work")
    return World(root)


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


def test_deraining_each_file_alone(world: World, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = place(world.root / "photos", share(1))
    world.remember()
    for each in placed:
        said = world.call(
            test_program.main, f"--input={each.path}", "--checkpoint", weights, "--gpu_ids", "-1", "--output", world.out
        )
        if each.hostile.picture is not None:
            assert (said.code == 0) == each.hostile.picture, (each, said)
        if said.code:
            assert names(said.errors[0], each), said
        world.empty()
