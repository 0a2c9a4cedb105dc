"""The folders that a training writes to, and what a run has left in its own."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts._doctor.report import OK, PROBLEM, WARNING, Finding
from scripts._doctor.request import Request

MEGABYTE, GIGABYTE = 10**6, 10**9
LEAST, COMFORTABLE = GIGABYTE, 10 * GIGABYTE
"""CCLGAN's training state has half a gigabyte at the default sizes, and is written anew before the old one goes; each
numbered checkpoint adds a tenth of one."""

PROBE_BYTES = 16 * MEGABYTE
SLOW = 20 * MEGABYTE  # a second; half a gigabyte then takes half a minute
LOADING_SECONDS = 4.0
NET_FILE = re.compile(r"(?P<tag>.+)_net_(?P<net>.+)\.pth")


def existing_part(folder: Path) -> Path:
    """``folder``, or the closest folder above it that exists."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk in ``folder``; the file has no name or is gone afterwards.

    Raises:
        OSError: nothing can be written there.
    """
    block = os.urandom(MEGABYTE)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(PROBE_BYTES // MEGABYTE):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return PROBE_BYTES / (time.perf_counter() - start)


def check_folder(
    flag: str,
    folder: Path,
    usage: Callable[[Path], Any] = shutil.disk_usage,
    speed: Callable[[Path], float] = write_speed,
) -> Iterator[Finding]:
    """Free space, permission and speed of the place that ``flag`` names."""
    place = existing_part(folder)
    subject = f"{flag} {folder}"
    if not place.is_dir():
        yield Finding(PROBLEM, subject, f"{place} is a file", "choose another folder")
        return
    free = usage(place).free
    facts = f"{free / GIGABYTE:,.1f} GB free"
    if free < LEAST:
        yield Finding(PROBLEM, subject, f"{facts}, too little to save a training", "free space, or choose another disk")
        return
    try:
        rate = speed(place)
    except OSError as error:
        yield Finding(
            PROBLEM, subject, f"{place} cannot be written ({error.strerror or error})", "choose another folder"
        )
        return
    facts += f", writes {rate / MEGABYTE:,.0f} MB/s"
    if free < COMFORTABLE:
        todo = "keep fewer checkpoints (--save_epoch_freq), or choose another disk"
        yield Finding(WARNING, subject, f"{facts}, which a long training may fill", todo)
    elif rate < SLOW:
        yield Finding(WARNING, subject, f"{facts}, so every save takes long", "prefer a disk of this machine")
    else:
        yield Finding(OK, subject, facts)


def check_run(request: Request) -> Iterator[Finding]:
    """The run's options and its training state; raises :class:`util.errors.UserError` where they cannot be used."""
    from util.engine.checkpoint import Checkpointer
    from util.engine.weights import load_file
    from util.errors import UserError

    opt = request.options_of_run()
    subject, folder = f"run {opt.name}", Checkpointer(Path(opt.checkpoints_dir) / opt.name)
    states = [file for file in (folder.state_file, folder.previous_state_file) if file.is_file()]
    if not states:
        todo = "with --continue_train only the networks go on, the optimizers start afresh"
        yield Finding(WARNING, subject, f"--model {opt.model}, without a training state", todo)
        return
    for number, file in enumerate(states, 1):
        try:
            position = load_file(file)["position"]
            break
        except UserError as error:
            if number == len(states):
                raise
            yield Finding(WARNING, subject, str(error), "--continue_train goes on from the state before it by itself")
    found = f"--model {opt.model}, goes on in epoch {position['epoch']} after {position['total_images']:,} images"
    yield Finding(OK, subject, f"{found}{_who_trains(folder.path)}")


def _who_trains(folder: Path) -> str:
    """A note where a process holds the run's lock."""
    from util.engine.checkpoint import LOCK_FILE
    from util.lock import owner_of

    owner = owner_of(folder / LOCK_FILE)
    return f"; it is being trained now by {owner}" if owner else ""


def check_networks(
    request: Request, budget: float = LOADING_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """Whether the run's network files load: the latest first, then as many as there is time for."""
    from util.engine.weights import load_file
    from util.errors import UserError
    from util.names import check_name

    check_name(request.name or "")
    folder = Path(request.checkpoints_dir) / (request.name or "")
    files = sorted(
        (path for path in folder.glob("*_net_*.pth") if path.is_file()), key=lambda path: -path.stat().st_mtime
    )
    subject = f"networks of {request.name}"
    if not files:
        yield Finding(WARNING, subject, "there are none yet", "train first, or check --name and --checkpoints_dir")
        return
    end, loaded, bad = clock() + budget, 0, 0
    for path in files:
        if loaded + bad and clock() > end:
            break
        try:
            load_file(path)
            loaded += 1
        except UserError as error:
            bad += 1
            yield Finding(PROBLEM, subject, str(error))
    left = len(files) - loaded - bad
    rest = f", {left} older ones not looked at" if left else ""
    if loaded:
        yield Finding(OK, subject, f"{loaded} of {len(files)} files load{rest}; checkpoints: {', '.join(_tags(files))}")
    if unfinished := [path.name for path in folder.glob(".*.tmp")]:
        found = f"{len(unfinished)} unfinished files of a save that was cut off (first '{unfinished[0]}')"
        yield Finding(WARNING, subject, found, "the next --continue_train sweeps them up")


def _tags(files: list[Path]) -> list[str]:
    """The checkpoints by name: epochs by number, then the rest."""
    tags = {match["tag"] for path in files if (match := NET_FILE.fullmatch(path.name))}
    numbers = sorted(int(tag) for tag in tags if tag.isdecimal())
    shown = [str(number) for number in numbers] if len(numbers) <= 3 else [f"{len(numbers)} epochs up to {numbers[-1]}"]
    return [*shown, *sorted(tag for tag in tags if not tag.isdecimal())]
