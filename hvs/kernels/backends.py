"""Choice of the backend: the one asked for, or the fastest that can run on the tensors' device."""

import warnings
from functools import cache

import torch
from torch import Tensor

BACKENDS = ("auto", "triton", "torch", "reference")
# Compute capability of the oldest NVIDIA GPUs that Triton supports.
OLDEST_GPU = (8, 0)


def select(backend: str, means: Tensor) -> str:
    """Name of the backend that renders Gaussians with these means.

    Raises:
        ValueError: there is no such backend, or "triton" was asked for and cannot run here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, wanted one of {', '.join(BACKENDS)}")
    if backend not in ("auto", "triton"):
        return backend
    single = means.dtype != torch.float64
    if backend == "auto" and not (means.is_cuda and single):
        # The lists of the torch backend have no length where there are no values to cull by.
        return "reference" if means.device.type == "meta" else "torch"
    obstacle = _obstacle(str(means.device)) if single else "computes in float32, but means is float64"
    if not obstacle:
        return "triton"
    if backend == "triton":
        raise ValueError(f"backend: got 'triton', which {obstacle}")
    _notice(obstacle)
    return "torch"


def _obstacle(device: str) -> str:
    return _find_obstacle(device)


# The effect of torch.compiler.assume_constant_result; calling it would import the whole compiler with the package.
_obstacle._dynamo_marked_constant = True


@cache
def _find_obstacle(device: str) -> str:
    """Why the Triton backend cannot run on a device; empty if it can."""
    try:
        import triton
    except ImportError:
        return "needs the package triton, but it is not installed"
    if triton.knobs.runtime.interpret:
        return ""
    if torch.device(device).type != "cuda":
        return f"runs on a GPU, but means is on {device} (TRITON_INTERPRET=1 runs it on the CPU, for debugging)"
    if not torch.version.hip and torch.cuda.get_device_capability(device) < OLDEST_GPU:
        name, found = torch.cuda.get_device_name(device), ".".join(map(str, torch.cuda.get_device_capability(device)))
        return f"needs compute capability {'.'.join(map(str, OLDEST_GPU))}, but {name} has {found}"
    return ""


@cache
def _notice(obstacle: str) -> None:
    warnings.warn(f"hvs.rasterize falls back to the slower backend 'torch': 'triton' {obstacle}", stacklevel=2)
