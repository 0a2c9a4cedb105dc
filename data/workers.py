"""Signals around the loader's worker processes: stopping is the main process's business."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from util.errors import STOP_SIGNALS


class WorkerSignals:
    """A ``worker_init_fn`` that keeps a worker serving when its whole process group is told to stop.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to every process of a job. The main process finishes
    its step and saves, for which its workers have to stay. A worker ignores these signals for good, but SIGTERM until
    the main process is about to exit: then Python itself ends the workers that are left with SIGTERM and
    waits for them. A worker whose main process was killed notices within seconds (PyTorch looks after that).
    """

    def __init__(self) -> None:
        self._main_ends = multiprocessing.RawValue("b", 0)
        self._registered = False

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Around the start of workers: signals wait until these have their own handlers."""
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
        else:
            if multiprocessing.get_start_method() == "spawn":
                resource_tracker.ensure_running()  # whose own start would let the signals through again
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                with _no_news_of_children():
                    yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self._registered:  # after PyTorch's and multiprocessing's own, hence run before them
            atexit.register(self._let_workers_end)
            self._registered = True

    def __call__(self, worker_id: int) -> None:
        """In a worker: replace the handlers that were inherited from the main process."""
        del worker_id
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_terminate if number == signal.SIGTERM else signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._main_ends.value:
            os._exit(0)

    def _let_workers_end(self) -> None:
        self._main_ends.value = 1


@contextmanager
def _no_news_of_children() -> Iterator[None]:
    """Keep the handler for ended child processes that is there now.

    PyTorch installs one that raises in the middle of whatever runs, be it an update of the networks, when a worker
    dies. Its loader finds that out by itself while it waits for a batch, which is a moment to save at.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
