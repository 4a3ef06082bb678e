"""Keeps computations in the precision of their inputs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

# Settings that let products of float32 be computed from fewer digits (TF32 on GPUs, bfloat16 on some CPUs).
_SETTINGS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which tensors on a device keep their precision."""
    # This device has no autocast, and refuses to switch it off. Whether one has cannot be asked: the compiler of torch
    # 2.11 stops at that question.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


@contextmanager
def with_all_digits() -> Iterator[None]:
    """A context, or a decorator, in which products of float32 take all its digits, whatever the program has set."""
    if torch.compiler.is_compiling():
        # The compiler does not know these settings.
        yield
        return
    before = [setting.fp32_precision for setting in _SETTINGS]
    try:
        for setting in _SETTINGS:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(_SETTINGS, before, strict=True):
            setting.fp32_precision = value
