"""What asks a training to stop: Ctrl-C, SIGTERM, and a limit of time. The current step is finished first."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from util.errors import EXIT_INTERRUPTED, EXIT_TIME_LIMIT, Terminated

logger = logging.getLogger(__name__)

SECONDS_PER_HOUR = 3600
_BASE_OF_SIGNALS = 128  # exit codes, as shells count
_SPARE_SHARE = 0.02  # of the limit, for what nobody measures, such as closing files and ending
_SPARE_SECONDS = 60.0  # at most


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
    """Context in which the first Ctrl-C or SIGTERM only sets ``requested``; the second one interrupts at once.

    A ``deadline`` sets it too. Outside the main thread, where Python takes no signals, only that counts.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self._deadline = deadline
        self._signal: signal.Signals | None = None
        self._is_late = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        if self._signal is None and not self._is_late and self._deadline is not None and self._deadline.reached:
            self._is_late = True
            logger.info("--time_limit is almost over: saving")
        return self._signal is not None or self._is_late

    @property
    def exit_code(self) -> int:
        """What the process returns because of it: 130 for Ctrl-C, 143 for SIGTERM, 75 for the limit of time."""
        if self._signal is not None:
            return _BASE_OF_SIGNALS + self._signal
        return EXIT_TIME_LIMIT if self._is_late else EXIT_INTERRUPTED

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._signal = signal.Signals(number)
        logger.info("%s: finishing this step and saving; once more to stop at once", self._signal.name)
