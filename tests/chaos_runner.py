"""Trains, kills and resumes in forks of one process, which has imported everything once.

``python -m tests.chaos_runner TASK``, started by ``tests/test_chaos.py``: TASK is a JSON object with the flags of the
training, its folder, how many kills, and the seed. Prints a JSON object about what happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import skimage.metrics  # noqa: F401 - what validation imports when it is first made
import torch

import train as train_program
from util.engine.checkpoint import Checkpointer
from util.engine.loop import Training
from util.engine.weights import is_damaged, load_file
from util.trackers.csv_files import read_table

OPERATIONS = ("fsync", "replace", "link", "unlink")
SECONDS_LIMIT = 120.0  # for one life
LATEST_OPERATION = 60  # at which a life ends by itself; a save has about thirty of them
KINDS = ("any moment", "in a save", "at the start")


def report(pipe: int, message: str) -> None:
    """Tell the killer something."""
    os.write(pipe, (message + "\n").encode())


def die_at(number: int) -> None:
    """End this process, as SIGKILL does, at its so-many-th change of the disk once it trains."""
    left = [number]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.killpg(0, signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def live(flags: list[str], pipe: int, fatal_operation: int, log: Path) -> None:
    """One life of the training, in a process group of its own."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    save, step = Checkpointer.save_state, Training._step

    def save_and_tell(self: Checkpointer, state: Any) -> None:
        save(self, state)
        report(pipe, f"saved {state.position.total_images}")

    def step_and_tell(self: Training, *rest: Any) -> None:
        step(self, *rest)
        report(pipe, "step")

    Checkpointer.save_state, Training._step = save_and_tell, step_and_tell  # type: ignore[method-assign, assignment]
    if fatal_operation:
        die_at(fatal_operation)
    code = train_program.main(flags)
    report(pipe, f"ended {code}")
    os._exit(code)


def one_life(flags: list[str], log: Path, kind: str | None, draw: random.Random) -> tuple[bool, int, int]:
    """Fork, train, perhaps kill; returns whether it was killed, its exit code and the last state it told of."""
    reading, writing = os.pipe()
    operation = draw.randint(1, LATEST_OPERATION) if kind == "in a save" else 0
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            live(flags, writing, operation, log)
        finally:
            os._exit(70)
    os.close(writing)
    started = time.monotonic()
    deadline = {"at the start": started + draw.uniform(0.0, 1.5)}.get(kind or "", started + SECONDS_LIMIT)
    saved, rest = 0, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        block = os.read(reading, 4096)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"saved"):
                saved = int(line.split()[1])
            if line == b"step" and kind == "any moment" and deadline > started + SECONDS_LIMIT - 1:
                deadline = time.monotonic() + draw.uniform(0.0, 0.8)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        for line in os.read(reading, 65536).split(b"\n"):
            saved = int(line.split()[1]) if line.startswith(b"saved") else saved
    os.close(reading)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status), saved


def look(run: Path, saved: int) -> list[str]:
    """What is wrong with the files that a killed process left."""
    wrong = [f"{path.name} is damaged" for path in run.glob("[!.]*.pth") if is_damaged(path)]
    state = run / "training_state.pth"
    total = load_file(state)["position"]["total_images"] if state.is_file() else 0
    if total < saved:
        wrong.append(f"saved {saved} images, but the state has {total}")
    for name in ("losses.csv", "metrics.csv"):
        rows = [row["total_images"] for row in read_table(run / name)]
        if rows != sorted(set(rows)):
            wrong.append(f"{name} has rows out of order")
        if state.is_file() and name == "losses.csv" and max(rows, default=0) < total:
            wrong.append(f"{name} ends at {max(rows, default=0)}, the state at {total}")
    return wrong


def main() -> None:
    """Kill at least so many times, then let the run finish."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    draw, folder = random.Random(task["seed"]), Path(task["folder"])
    run = folder / "checkpoints" / task["name"]
    kills, wrong, log = dict.fromkeys(KINDS, 0), [], folder / f"{task['name']}.log"
    while True:
        resumed = (run / "training_state.pth").is_file() and (run / "options.yaml").is_file()
        kind = draw.choice(KINDS) if sum(kills.values()) < task["kills"] else None
        flags = [*task["flags"], *(["--continue_train"] if resumed else [])]
        killed, code, saved = one_life(flags, log, kind, draw)
        wrong += look(run, saved)
        if killed and kind is not None:
            kills[kind] += 1
            continue
        break
    print(json.dumps({"kills": kills, "wrong": wrong, "code": code}))


if __name__ == "__main__":
    main()
