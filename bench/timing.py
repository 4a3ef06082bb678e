"""Time and memory of a call, on any device.

On a GPU, calls that are named as capturable are replayed from CUDA graphs, so that the GPU's work is timed and not
Python's. Every run starts with a cold L2 cache. Times come from CUDA events there, and from the wall clock on a CPU.
"""

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

MIB = 1024**2
# More than the L2 cache of any GPU so far.
FLUSHED_BYTES = 256 * MIB
WARM_UP = 3
# How often the compared calls take turns.
ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median, and the quartiles around it; and whether the call was replayed from a CUDA graph."""

    median: float
    low: float
    high: float
    captured: bool = False

    @staticmethod
    def of(milliseconds: list[float], captured: bool = False) -> "Timing":
        low, median, high = np.quantile(milliseconds, (0.25, 0.5, 0.75)).tolist()
        return Timing(median, low, high, captured)


def measure(
    functions: dict[str, Callable[[], object]], device: str, seconds: float, captured: Collection[str] = ()
) -> dict[str, Timing]:
    """Time calls in turns.

    Every round runs each of them for a while, so that other work on the machine affects them all.

    Args:
        functions: the calls, by name.
        seconds: time to spend on each of them.
        captured: names of those to capture into CUDA graphs, on a GPU. A call that waits for the GPU must not be among
            them: a failed capture leaves the allocator waiting for the end of a graph, which disturbs all later calls.
    """
    on_gpu = torch.device(device).type == "cuda"
    runs = {name: _prepare_on_gpu(f) if on_gpu and name in captured else (f, False) for name, f in functions.items()}
    once = _time_on_gpu if on_gpu else _time_on_cpu
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (run, _) in runs.items():
            stop = time.perf_counter() + seconds / ROUNDS
            once(run)
            while not times[name] or time.perf_counter() < stop:
                times[name].append(once(run))
    return {name: Timing.of(found, runs[name][1]) for name, found in times.items()}


def peak_mib(function: Callable[[], object], device: str) -> float:
    """Peak memory of a call, beyond what was allocated before it."""
    function()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with torch.profiler.profile(profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return float(np.cumsum(changes).max()) / MIB


def own_stream(device: str) -> AbstractContextManager:
    """On a GPU, a separate stream: an autograd graph that was made on the default stream cannot be captured."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.stream(torch.cuda.Stream(device)) if on_gpu else nullcontext()


def _prepare_on_gpu(function: Callable[[], object]) -> tuple[Callable[[], object], bool]:
    """A replay of the call's graph, and True; the call itself, and False, if it waits for the GPU and has no graph."""
    stream = torch.cuda.current_stream()
    if stream == torch.cuda.default_stream():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            function()
    except RuntimeError:
        torch.cuda.synchronize()
        return function, False
    return graph.replay, True


def _time_on_gpu(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda").zero_()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _time_on_cpu(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
