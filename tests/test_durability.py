"""A save in which anything at all goes wrong: every single write fails once, and the process dies at every one."""

from __future__ import annotations

import builtins
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.disk_operations import operations
from tests.test_step import TwoPhases, make_stepper
from util.engine.checkpoint import PREVIOUS_STATE_FILE, STATE_FILE, Checkpointer
from util.engine.state import TrainingState
from util.engine.weights import is_damaged, load_file, net_file, save_atomically
from util.errors import UserError

TAG = "5"
CAN_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def make_state(total_images: int) -> TrainingState:
    """A training whose weights are its number of images."""
    model = TwoPhases()
    for network in model.nets.values():
        nn.init.constant_(network.weight, float(total_images))
    state = TrainingState(make_stepper(model), 2)
    state.position.total_images = total_images
    return state


def save_first(folder: Path) -> Checkpointer:
    run = Checkpointer(folder)
    run.create(fresh=True)
    run.save("4", make_state(4))
    return run


def count_of(folder: Path) -> int:
    run = save_first(folder)
    with operations(lambda name, number: None) as done, run:
        run.save(TAG, make_state(5))
    assert {"open", "write", "fsync", "replace", "link"} <= set(done)
    return len(done)


def check_whole(folder: Path) -> int:
    """Every file is whole, and the run goes on with networks that belong together; returns from where."""
    assert load_file(folder / STATE_FILE)["position"]["total_images"] in (4, 5)
    for path in folder.glob("[!.]*.pth"):
        assert not is_damaged(path), path
    with Checkpointer(folder) as run:
        run.claim()
        state = make_state(0)
        assert run.resume(state, "latest", describe=lambda _: {})
    total = state.position.total_images
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    for name in ("a", "b"):
        for tag in {"latest", str(total)}:
            assert load_file(net_file(folder, tag, name))["weight"].item() == total
        assert state.stepper.model.nets[name].state_dict()["weight"].item() == total
    return total


@pytest.mark.parametrize(
    ("number", "lasting"),
    [(errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EROFS, True)],
    ids=["full once", "full from then on", "read-only from then on"],
)
def test_a_write_that_fails_leaves_a_run_that_goes_on(tmp_path: Path, number: int, lasting: bool) -> None:
    total = count_of(tmp_path / "count")
    outcomes: set[str | int] = set()
    for fatal in range(1, total + 1):

        def fail(name: str, count: int, fatal: int = fatal) -> None:
            if count == fatal or (lasting and count > fatal):
                raise OSError(number, os.strerror(number))

        folder = tmp_path / str(fatal)
        with save_first(folder) as run, operations(fail):
            try:
                run.save(TAG, make_state(5))
                outcomes.add("survived")
            except UserError as error:
                outcomes.add("told")
                assert "cannot be written" in str(error) and "\n" not in str(error)
        assert not list(folder.glob(".*")), "a temporary file is left"
        outcomes.add(check_whole(folder))
    assert {"told", 4, 5} <= outcomes


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_stumbles_once_costs_nothing(tmp_path: Path, number: int) -> None:
    """EIO and ESTALE of a network drive at any operation; EACCES of a scanner where a file gets its name."""
    count = count_of(tmp_path / "count")
    for fatal in range(1, count + 1):

        def stumble(name: str, count: int, fatal: int = fatal) -> None:
            if count == fatal and (name == "replace" or number != errno.EACCES):
                raise OSError(number, os.strerror(number))

        with save_first(tmp_path / str(fatal)) as run, operations(stumble):
            run.save(TAG, make_state(5))
        assert check_whole(tmp_path / str(fatal)) == 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@CAN_FORK
def test_a_process_that_dies_at_any_operation_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    total, outcomes = count_of(tmp_path / "count"), set()
    for fatal in range(1, total + 1):
        folder = tmp_path / str(fatal)
        child = os.fork()
        if child == 0:
            try:
                run = save_first(folder)
                with operations(lambda name, count: die() if count == fatal else None):  # noqa: B023 - used at once
                    run.save(TAG, make_state(5))
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        outcomes.add(check_whole(folder))
    assert outcomes == {4, 5}


def test_what_a_killed_process_left_unfinished_is_swept_up_everywhere(tmp_path: Path) -> None:
    (tmp_path / "web" / "images").mkdir(parents=True)
    left = [tmp_path / ".state.1.tmp", tmp_path / "web" / ".2.tmp", tmp_path / "web" / "images" / ".3.tmp"]
    kept = [tmp_path / "web" / "images" / "a.tmp", tmp_path / "web" / ".hidden"]
    for path in (*left, *kept):
        path.touch()
    with Checkpointer(tmp_path) as run:
        run.claim()
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_without_hard_links_a_state_is_there_at_any_moment(tmp_path: Path) -> None:
    def check(name: str, number: int) -> None:
        if name == "link":
            raise OSError(errno.EPERM, "Operation not permitted")
        assert (tmp_path / STATE_FILE).is_file() or (tmp_path / PREVIOUS_STATE_FILE).is_file()

    with save_first(tmp_path) as run, operations(check):
        run.save(TAG, make_state(5))
    assert load_file(tmp_path / STATE_FILE)["position"]["total_images"] == 5
    assert load_file(tmp_path / PREVIOUS_STATE_FILE)["position"]["total_images"] == 4


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut off":
        content = content[: len(content) // 2]
    elif how == "one bit":
        content[len(content) // 3] ^= 1
    elif how == "empty":
        content.clear()
    path.unlink()
    if how != "missing":
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut off", "one bit", "empty", "missing"])
def test_a_damaged_state_gives_way_to_the_one_before(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with save_first(tmp_path) as run:
        run.save(TAG, make_state(5))
        damage(tmp_path / STATE_FILE, how)
    assert resume(tmp_path) == 4
    (warning,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert "going on from the state before" in warning and STATE_FILE in warning
    assert resume(tmp_path) == 4  # and a crash right after this does no harm
    assert (tmp_path / "training_state.damaged.pth").is_file() == (how != "missing")


def resume(folder: Path) -> int:
    with Checkpointer(folder) as run:
        run.claim()
        state = make_state(0)
        run.resume(state, "latest", describe=lambda _: {})
    return state.position.total_images


def test_every_flipped_bit_is_noticed_or_without_effect(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    save_atomically({"weight": torch.arange(64.0)}, path)
    whole = path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 7):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        try:
            refused = not torch.equal(load_file(path)["weight"], torch.arange(64.0))
        except UserError:
            refused = True
        else:  # such as a date in the archive's directory
            assert not refused, position
        noticed += refused
    assert noticed > len(whole) // 7 // 2


@pytest.mark.parametrize("seed", range(40))
def test_damage_without_a_checksum_is_one_sentence(tmp_path: Path, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    torch.save({"weight": torch.arange(8.0), "deep": {"list": [1, "two"]}}, tmp_path / "file.pth")
    content = bytearray((tmp_path / "file.pth").read_bytes())
    for position in torch.randint(len(content), (12,), generator=random).tolist():
        content[position] ^= 255
    (tmp_path / "file.pth").write_bytes(content)
    try:
        load_file(tmp_path / "file.pth")
    except UserError as error:
        assert "file.pth" in str(error)


def test_a_file_with_a_checksum_is_an_ordinary_one(tmp_path: Path) -> None:
    import zipfile

    save_atomically({"weight": torch.arange(3.0)}, tmp_path / "file.pth")
    assert torch.equal(torch.load(tmp_path / "file.pth", weights_only=True)["weight"], torch.arange(3.0))
    with zipfile.ZipFile(tmp_path / "file.pth") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(("keep", "left"), [(0, {1, 2, 3, 4}), (1, {4}), (2, {3, 4}), (9, {1, 2, 3, 4})])
def test_only_the_newest_numbered_checkpoints_are_kept(tmp_path: Path, keep: int, left: set[int]) -> None:
    with Checkpointer(tmp_path, keep=keep) as run:
        run.create(fresh=True)
        for name in ("best_psnr", "iter_1", "77x"):
            save_atomically({}, net_file(tmp_path, name, "a"))
        for number in range(1, 5):
            run.save(str(number), make_state(number))
    numbers = {int(path.name.split("_")[0]) for path in tmp_path.glob("[0-9]_net_*.pth")}
    assert numbers == left
    assert len(list(tmp_path.glob("*_net_*.pth"))) == 2 * (len(left) + 1) + 3


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    with save_first(folder) as run:
        run.options_file.write_text("lr: 1\n", encoding="utf-8")
        run.remember_options()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        run.save(TAG, make_state(5))
        assert "was deleted" in caplog.text
        assert run.options_file.read_text(encoding="utf-8") == "lr: 1\n"
        assert (folder / "run.lock").is_file()
    assert check_whole(folder) == 5


def test_nothing_but_tensors_is_taken_from_a_state(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (builtins.open, (str(tmp_path / "executed"), "w"))

    with save_first(tmp_path) as run:
        run.save(TAG, make_state(5))
        torch.save({"format": 4, "nets": Trap()}, tmp_path / STATE_FILE)
    assert resume(tmp_path) == 4
    assert not (tmp_path / "executed").exists()
