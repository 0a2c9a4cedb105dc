"""Hundreds of command lines that no user should write, through every command (tests/hostile_commands.py).

Each ends, within a time: with success, or with exit code 2 and one sentence; without a traceback, and without a file
outside of the output folder.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.hostile_commands import STOPPED, Command, check_marker, command_lines, commands, furnish, without_effort
from tests.hostile_world import World

LEAST = 200
"""Command lines that there must be in all."""

SECONDS = 60
"""After which a command counts as hanging."""

ALL = commands()
USUAL = {command.name: 40 if command.name.startswith(("train", "test")) else 16 for command in ALL}
DIFFERENT = 0.6  # of them, at least; hypothesis now and then makes one again
THOROUGH = 10  # times as many


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Fail what takes too long."""

    def late(*_: Any) -> None:
        raise AssertionError("hangs")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def bombard(world: World, command: Command, examples: int) -> set[tuple[str, ...]]:
    """Call ``command`` with so many command lines; returns the different ones."""
    tried: set[tuple[str, ...]] = set()

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(command_lines(command))
    def one(line: tuple[str, ...]) -> None:
        tried.add(line)
        with limited():
            world.call(command.main, *line, codes=(0, 2, STOPPED))
        world.check()
        check_marker(world)
        world.empty()

    furnish(world.root)
    world.remember()
    with without_effort():
        one()
    return tried


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_no_command_line_breaks_a_command(world: World, command: Command) -> None:
    assert len(bombard(world, command, USUAL[command.name])) >= DIFFERENT * USUAL[command.name]


@pytest.mark.heavy
@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_no_command_line_of_thousands_breaks_a_command(world: World, command: Command) -> None:
    bombard(world, command, THOROUGH * USUAL[command.name])


@pytest.mark.parametrize("command", [command for command in ALL if command.flags], ids=lambda command: command.name)
def test_two_dashes_are_no_value_of_a_flag(world: World, command: Command) -> None:
    flag = command.flags[0].name
    said = world.call(command.main, *command.base, f"--{flag}=--")
    assert said.code == 2 and said.errors == [f"error: --{flag}: '--' cannot be its value; give another one."]


def test_there_are_enough_command_lines() -> None:
    assert DIFFERENT * sum(USUAL.values()) >= LEAST
