"""Keeps computations in the precision of their inputs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock

import torch


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which tensors on a device keep their precision."""
    # This device has no autocast, and refuses to switch it off. Whether one has cannot be asked: the compiler of torch
    # 2.11 stops at that question.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class _Digits:
    """The settings that let products of float32 be computed from fewer digits: TF32 on GPUs, bfloat16 on some CPUs.

    They are those of the whole process: the first thread to need all digits changes them, and the last one to leave
    restores them.
    """

    def __init__(self) -> None:
        self.lock, self.users = Lock(), 0
        self.settings = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        self.before: list[tuple[object, str]] = []

    def enter(self) -> None:
        with self.lock:
            if not self.users:
                # Nothing is set that was not: "none" leaves the decision to a more general setting.
                self.before = [(s, s.fp32_precision) for s in self.settings if s.fp32_precision not in ("ieee", "none")]
                for setting, _ in self.before:
                    setting.fp32_precision = "ieee"
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                for setting, value in self.before:
                    setting.fp32_precision = value


_digits = _Digits()


@contextmanager
def with_all_digits() -> Iterator[None]:
    """A context, or a decorator, in which products of float32 take all its digits, whatever the program has set."""
    if torch.compiler.is_compiling():
        # The compiler does not know these settings.
        yield
        return
    _digits.enter()
    try:
        yield
    finally:
        _digits.leave()
