"""Signals to stop (Ctrl-C, a scheduler's SIGTERM), heeded where the work can be stopped, not where they arrive."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """While this is open, the first signal only sets ``asked``; a second one ends the process at once.

    Must be opened in the main thread. Signals that the process was told to ignore stay ignored.
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


def heed_parent(worker: int = 0) -> None:
    """Let only the parent end a process that reads ahead for it (for use as ``worker_init_fn``).

    The parent has to finish its step, but a terminal or a scheduler may send its signals to all processes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Without this call, the senders of signals cannot be told apart.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
