"""Work shared by processes, each with a GPU of its own: torchrun starts them, DistributedDataParallel averages.

Every process takes its share of each step's batch, or of an evaluation's pairs, and together they compute what one
process would compute from the whole. A plain run is one process without a group, for which nothing here costs anything.

    with one_voice():
        device = start("auto")
        objective = wrap(objective)
"""

import atexit
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .runtime import UserError, select_device

# Where the processes leave word for one another, even after the group is gone; there is none in a plain run.
_store: dist.Store | None = None
# How long others wait for the one that reports an error, as torchrun kills all others when the first one ends.
PATIENCE = timedelta(seconds=10)


def start(device_name: str) -> torch.device:
    """Join the group of processes, if torchrun has started more than one, and find this one's device.

    GPUs communicate through NCCL and hosts through gloo.

    Raises:
        UserError: there is no such device, or none for this process alone, or the processes do not find each other.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes == 1:
        return select_device(device_name)
    if dist.is_initialized():
        return _own_device(device_name)
    global _store
    try:
        store, own, _ = next(dist.rendezvous("env://"))
        # torchrun may restart all processes after a failure, and its store outlives them.
        _store = dist.PrefixStore(f"hvs/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"WORLD_SIZE is {processes}, but the processes do not find each other: {error}") from error
    device = _own_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=_store, rank=own, world_size=processes)
    return device


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def first_prints() -> AbstractContextManager[object]:
    """A context in which only the first process prints, even before any has joined the group."""
    return nullcontext() if os.environ.get("RANK", "0") == "0" else redirect_stdout(io.StringIO())


@contextmanager
def one_voice() -> Iterator[None]:
    """Let only one process report an error that ends the work: the first that met one. The others end silently.

    A process that fails takes the others with it, as they lose their connection to it.

    Raises:
        UserError: another process was killed, hangs or cannot be reached.
    """
    try:
        yield
    except SystemExit as end:
        if not end.code:
            stop()
        raise
    except BaseException as error:
        if _store is None:
            raise
        if not _speaks_first():
            _leave_group()
            raise SystemExit(2) from None
        if _is_lost_connection(error):
            raise UserError(f"process {rank()} lost the others: one was killed, hangs or cannot be reached") from error
        raise
    stop()


def wrap(module: nn.Module) -> nn.Module:
    """A module with gradients averaged over the processes; all start with the first one's weights and buffers.

    To be called once all parameters have their initial values and `requires_grad`. Buffers are never sent again, as
    training changes them in the same way everywhere.
    """
    if world() == 1:
        return module
    # The strides of a filter of one pixel are ambiguous.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    wrapped = DistributedDataParallel(module, gradient_as_bucket_view=True)
    # Only now, as they are to be sent once, too.
    wrapped.broadcast_buffers = False
    return wrapped


def accumulating(module: nn.Module, last: bool) -> AbstractContextManager[None]:
    """The context for forward and backward of one pass of a step: gradients are sent in the last pass only."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()


def average(value: Tensor) -> Tensor:
    """The mean over the processes, without a gradient; can be compiled."""
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world()


def everywhere(flags: Tensor) -> Tensor:
    """Which flags, of any shape, are true in all processes; does not wait for the device."""
    if world() == 1:
        return flags
    found = flags.float()
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return found > 0


def anywhere(flag: bool) -> bool:
    """Whether the flag is true in any process; waits for the other hosts, but for no device."""
    if world() == 1:
        return flag
    found = torch.tensor(float(flag))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def gather(value: Any) -> list[Any]:
    """Every process's value (anything that pickles), in their order and for all of them; waits for the other hosts."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


def agree(**values: Any) -> None:
    """Make sure that all processes have the same values; waits for the other hosts.

    Raises:
        UserError: they differ; raised in every process, and names the first difference.
    """
    first, *others = gather(values)
    for number, other in enumerate(others, 1):
        for name, value in other.items():
            if value != first[name]:
                raise UserError(f"{name}: is {value} in process {number}, but {first[name]} in process 0")


def share(items: Tensor) -> Tensor:
    """This process's share of a whole batch, along the first axis, whose size is a multiple of their number."""
    return items.chunk(world())[rank()]


def part(count: int) -> range:
    """This process's share of `count` things, as even as possible."""
    return range(count * rank() // world(), count * (rank() + 1) // world())


def _own_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith("cuda"):
        return select_device(name)
    if name != "cuda":
        raise UserError(f'device: got {name!r}, wanted "cuda": every process takes a GPU of its own')
    if not (own := os.environ.get("LOCAL_RANK", "")).isdigit():
        raise UserError(f"LOCAL_RANK: got {own!r}, wanted the process's number on its machine, as torchrun sets it")
    own = int(own)
    if own >= (found := torch.cuda.device_count()):
        raise UserError(f"device: process {own} of this machine has no GPU of its own, there are {found}")
    return select_device(f"cuda:{own}")


def _speaks_first() -> bool:
    """Whether no other process has reported an error; if one does, returns only after it has."""
    try:
        first = _store.add("told", 1) == 1
        if first:
            atexit.register(_leave_word, "ended")
            atexit.register(_leave_group)
        else:
            _store.wait(["ended"], PATIENCE)
        return first
    except RuntimeError:
        # Waited in vain, or the store went down with the process that held it.
        return False


def _leave_group() -> None:
    """Leave a group of hosts before the interpreter ends: now and then, gloo's threads would abort the process then.

    One of GPUs is left as it is, because NCCL might wait for what will never come.
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":
        stop()


def _leave_word(word: str) -> None:
    with suppress(RuntimeError):
        _store.set(word, "")


def _is_lost_connection(error: BaseException) -> bool:
    known = (dist.DistNetworkError, dist.DistBackendError)
    return isinstance(error, known) or (isinstance(error, RuntimeError) and "gloo/" in str(error))
