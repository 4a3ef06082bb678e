"""Signals to stop (Ctrl-C, a scheduler's SIGTERM) are asked for where the work can be stopped, not where they come."""

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """While this is open, a first signal only sets ``asked``; a second one ends the process at once.

    To be opened in the main thread. Signals that the process was told to ignore stay ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()


def ignore_signals(worker: int = 0) -> None:
    """For processes that read ahead (``worker_init_fn``): the one they read for ends them, once its step is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
