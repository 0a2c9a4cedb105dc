"""What asks a training to stop: signals such as Ctrl-C, and a limit of time. The current step is finished first.

Where several processes train, they stop after the same step, whichever of them was asked.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from util.engine.distributed import Distributed, LostProcess
from util.errors import EXIT_INTERRUPTED, EXIT_TIME_LIMIT, EXIT_USER_ERROR, STOP_SIGNALS, Terminated

logger = logging.getLogger(__name__)

SECONDS_PER_HOUR = 3600
_BASE_OF_SIGNALS = 128  # exit codes, as shells count
_STOP_AT_ONCE = (signal.SIGINT, signal.SIGTERM)  # if repeated; a closing terminal often sends SIGHUP twice
_SPARE_SHARE = 0.02  # of the limit, for what is not measured, such as closing files and ending
_SPARE_SECONDS = 60.0  # at most
_DONE, _LEFT_OFF, _WORKING = range(3)  # what the main process reports of what it does alone

T = TypeVar("T")


class Deadline:
    """When a training has to be over, saved included; in the clock that no change of date and time disturbs.

    It learns how long a step and a save take, and is ``reached`` while there is still time for both.
    """

    def __init__(self, seconds: float) -> None:
        """``seconds`` from now."""
        self._end = time.monotonic() + seconds
        self._spare = min(_SPARE_SHARE * seconds, _SPARE_SECONDS)
        self._longest: dict[str, float] = {}

    def observe(self, what: str, seconds: float) -> None:
        """``what`` (a step, a save) took so long."""
        self._longest[what] = max(seconds, self._longest.get(what, 0.0))

    @property
    def reached(self) -> bool:
        """Whether the next step and a save might take too long."""
        return time.monotonic() + sum(self._longest.values()) + self._spare >= self._end


class Interrupt:
    """Context in which a signal only sets ``requested``; a second Ctrl-C or SIGTERM interrupts at once.

    SIGHUP and SIGUSR1 stay ignored if they were (nohup). A ``deadline`` sets ``requested`` too. Outside the main
    thread, where Python takes no signals, only that counts.

    In a ``distributed`` training what one of them was asked for becomes ``requested`` in all of them at the same
    call of :meth:`together` or :meth:`main_process_does`. There a signal that comes again says nothing new: torchrun
    and batch systems often send it to a process as well as to its parent, and torchrun kills who takes too long.
    """

    def __init__(self, deadline: Deadline | None = None, distributed: Distributed | None = None) -> None:
        self._deadline, self._distributed = deadline, distributed or Distributed()
        self._signal: signal.Signals | None = None
        self._is_late = False
        self._agreed = 0
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return bool(self._wish() if self._distributed.world_size == 1 else self._agreed)

    @property
    def exit_code(self) -> int:
        """What the process returns because of it: 128 and the signal's number, 75 for the limit of time.

        2 where another process cannot go on.
        """
        return (self._wish() if self._distributed.world_size == 1 else self._agreed) or EXIT_INTERRUPTED

    def _wish(self) -> int:
        """The exit code that this process was asked for; 0 if it was not."""
        if self._signal is not None:
            return _BASE_OF_SIGNALS + self._signal
        if not self._is_late and self._deadline is not None and self._deadline.reached:
            self._is_late = True
            logger.info("--time_limit is almost over: saving")
        return EXIT_TIME_LIMIT if self._is_late else 0

    def together(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches; each once every process has its own, and none any more once all are to stop.

        A process that cannot read its batch tells the others, which then stop and save instead of waiting.
        """
        return batches if self._distributed.world_size == 1 else self._agreeing(batches)

    def _agreeing(self, batches: Iterator[T]) -> Iterator[T]:
        while True:
            try:
                batch = next(batches, None)
            except Exception:
                self._exchange(EXIT_USER_ERROR)
                self._distributed.failed = True
                raise
            self._exchange(self._wish())
            if batch is None or self._agreed:
                return
            yield batch

    def main_process_does(self, work: Callable[[Callable[[], bool]], bool]) -> bool:
        """What only the main process does, such as validating, and what it gives back, in all processes.

        ``work`` gets a function to be called now and then, which says whether to stop; the others wait for as long as
        it is called. It gives back False if it has left off.
        """
        if self._distributed.world_size == 1:
            return work(lambda: self.requested)
        if not self._distributed.is_main:
            while (status := self._exchange(self._wish(), _DONE)) == _WORKING:
                pass
            return status == _DONE

        def stop() -> bool:
            self._exchange(self._wish(), _WORKING)
            return self.requested

        try:
            done = work(stop)
        except LostProcess:
            raise
        except Exception:
            self._exchange(EXIT_USER_ERROR, _LEFT_OFF)
            self._distributed.failed = True
            raise
        self._exchange(self._wish(), _DONE if done else _LEFT_OFF)
        return done

    def _exchange(self, wish: int, status: int = _DONE) -> int:
        """Tell the other processes, and hear: what is agreed is the largest exit code that anybody has."""
        agreed, status = self._distributed.largest(wish, status)
        if agreed == EXIT_USER_ERROR and not (wish or self._agreed):
            logger.warning("another process cannot go on, as it says itself: saving")
        self._agreed = max(self._agreed, agreed)
        return status

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number in _STOP_AT_ONCE or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        alone = self._distributed.world_size == 1
        if alone and self._signal in _STOP_AT_ONCE and number in _STOP_AT_ONCE:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self._signal is None or (alone and number in _STOP_AT_ONCE):
            self._signal = signal.Signals(number)
            again = "; Ctrl-C or SIGTERM again to stop at once" if alone and number in _STOP_AT_ONCE else ""
            logger.info("%s: finishing this step and saving%s", self._signal.name, again)
