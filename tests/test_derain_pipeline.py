"""Reading ahead and writing behind: order, limits on memory, errors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from data.derain.pipeline import Clock, Task, WriteBehind, read_ahead

PATIENCE = 5  # seconds that a thread is waited for


class Meter:
    """Counts the pixels of results that were made and not yet used."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, pixels: int) -> None:
        with self._lock:
            self.now += pixels
            self.most = max(self.most, self.now)


def test_results_come_in_order() -> None:
    late = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert late.wait(PATIENCE)
        else:
            late.set()
        return number

    with ThreadPoolExecutor(4) as pool:
        results = list(read_ahead(pool, [Task(1, lambda n=n: work(n)) for n in range(20)]))  # type: ignore[misc]
    assert results == list(range(20))


def test_reading_ahead_keeps_to_its_limit() -> None:
    meter = Meter()

    def work() -> None:
        meter.add(10)

    with ThreadPoolExecutor(4) as pool:
        for _ in read_ahead(pool, [Task(10, work)] * 30, limit=45):
            meter.add(-10)
    assert 10 <= meter.most <= 50  # four that wait, and the one that is being used


def test_what_is_larger_than_the_limit_goes_alone() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(read_ahead(pool, [Task(100, lambda: 1)] * 3, limit=10)) == [1, 1, 1]


def test_an_error_comes_when_its_turn_has_come() -> None:
    def fail() -> int:
        raise ValueError("broken")

    taken = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="broken"):
        for result in read_ahead(pool, [Task(1, lambda: 1), Task(1, lambda: 2), Task(1, fail), Task(1, lambda: 3)]):
            taken.append(result)
    assert taken == [1, 2]


def test_everything_is_written_at_the_end() -> None:
    done: list[int] = []
    with ThreadPoolExecutor(3) as pool, WriteBehind(pool, done.append) as behind:
        for number in range(25):
            behind.submit(Task(1, lambda n=number: n))  # type: ignore[misc]
    assert done == list(range(25))


def test_writing_behind_keeps_to_its_limit() -> None:
    meter = Meter()
    with ThreadPoolExecutor(4) as pool, WriteBehind[None](pool, print, limit=45) as behind:
        for _ in range(30):
            meter.add(10)
            behind.submit(Task(10, lambda: meter.add(-10)))
    assert meter.most <= 60  # four that wait, the one that waits for room, and the one being made


def test_an_error_in_writing_is_raised() -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), ThreadPoolExecutor(1) as pool, WriteBehind(pool, print) as behind:
        behind.submit(Task(1, fail))


def test_what_was_computed_is_written_whatever_stops_the_rest() -> None:
    done: list[int] = []
    with (
        pytest.raises(KeyboardInterrupt),
        ThreadPoolExecutor(1) as pool,
        WriteBehind(pool, done.append) as behind,
    ):
        behind.submit(Task(1, lambda: 7))
        raise KeyboardInterrupt
    assert done == [7]


def test_the_summary_tells_speed_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 7.0, 8.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock()
    with clock.network():
        pass
    assert clock.summary(4, "images") == "4 images in 8.0 s: 0.5 images/s, of which the network took 75% of the time"
