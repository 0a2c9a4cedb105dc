"""Reading ahead of the network and writing behind it, so that it seldom waits; and how seldom."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
U = TypeVar("U")

PIXELS_IN_FLIGHT = 24_000_000
"""How many pixels may have been read and not yet be computed, and as many computed and not yet written. A pixel takes
12 bytes as a tensor and 3 or more as a picture: some 0.4 GB on each side."""


class Task(NamedTuple, Generic[T]):
    """Work to do, and how many pixels its result keeps in memory."""

    pixels: int
    work: Callable[[], T]


def read_ahead(pool: ThreadPoolExecutor, tasks: Iterable[Task[T]], limit: int = PIXELS_IN_FLIGHT) -> Iterator[T]:
    """Results of ``tasks`` in their order, worked on in ``pool`` before they are asked for.

    The results that wait to be taken have at most ``limit`` pixels together, but always one task is under way.
    An exception of a task is raised when it is its turn.
    """
    waiting: deque[tuple[int, Future[T]]] = deque()
    in_flight = 0
    remaining = iter(tasks)
    following = next(remaining, None)
    while True:
        while following is not None and (not waiting or in_flight + following.pixels <= limit):
            waiting.append((following.pixels, pool.submit(following.work)))
            in_flight += following.pixels
            following = next(remaining, None)
        if not waiting:
            return
        pixels, future = waiting.popleft()
        result = future.result()
        in_flight -= pixels
        yield result


class WriteBehind(Generic[U]):
    """Work that nobody waits for, until its results would take more than ``limit`` pixels of memory.

    As a context manager it waits for all of it at the end.
    ``done`` is called with each result, in order and in the thread that submits.
    """

    def __init__(self, pool: ThreadPoolExecutor, done: Callable[[U], object], limit: int = PIXELS_IN_FLIGHT) -> None:
        self._pool, self._done, self._limit = pool, done, limit
        self._waiting: deque[tuple[int, Future[U]]] = deque()
        self._in_flight = 0

    def submit(self, task: Task[U]) -> None:
        """Begin ``task`` as soon as a thread is free; raises what an earlier task raised."""
        while self._waiting and (self._waiting[0][1].done() or self._in_flight + task.pixels > self._limit):
            self._finish_one()
        self._waiting.append((task.pixels, self._pool.submit(task.work)))
        self._in_flight += task.pixels

    def _finish_one(self) -> None:
        pixels, future = self._waiting.popleft()
        self._in_flight -= pixels
        self._done(future.result())

    def __enter__(self) -> WriteBehind[U]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._waiting:
            if error is None:
                self._finish_one()
            else:  # what was computed is written whatever stopped us, which is what is told
                with suppress(Exception):
                    self._finish_one()


class Clock:
    """How long something took in all, and how much of that the network worked."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._network = 0.0

    @contextmanager
    def network(self) -> Iterator[None]:
        """The network's own time."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._network += time.perf_counter() - start

    def summary(self, count: int, unit: str) -> str:
        """Number, time, speed and the network's share, in one line; ``unit`` is a plural."""
        seconds = time.perf_counter() - self._start
        return (
            f"{count} {unit} in {seconds:.1f} s: {count / seconds:.3g} {unit}/s, "
            f"of which the network took {self._network / seconds:.0%} of the time"
        )
