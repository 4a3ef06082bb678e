"""Keeps computations in the precision of their inputs."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which tensors on a device keep their precision."""
    # A device without autocast, such as "meta", refuses to switch it off.
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
