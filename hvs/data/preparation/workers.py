"""Tasks in several processes, that report their progress to this one."""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

# Called after each frame.
Tick = Callable[[], Any]
Task = Callable[[Tick], Any]
# Seconds between looks at workers that report nothing.
PATIENCE = 0.2


def run_tasks(tasks: list[Task], workers: int, tick: Tick) -> list[Any]:
    """What the tasks give, in their order; with one worker they run here, with more in processes of their own.

    Args:
        tasks: functions of `tick` that can be pickled.
        workers: processes.
        tick: called here for every time that a task calls its own.

    Raises:
        Exception: the first fault of any task; what others had finished stays.
    """
    if workers <= 1 or len(tasks) <= 1:
        return [task(tick) for task in tasks]
    # Forked processes would share the locks of this one's threads, and could not use its GPU.
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (ticks,)) as pool:
        futures = [pool.submit(_work, task) for task in tasks]
        try:
            _wait(futures, ticks, tick)
        except BaseException:
            processes = list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
        return [future.result() for future in futures]


def _wait(futures: list[Future], ticks: multiprocessing.Queue, tick: Tick) -> None:
    while True:
        finished = all(future.done() for future in futures)
        try:
            while True:
                ticks.get(timeout=0 if finished else PATIENCE)
                tick()
        except queue.Empty:
            pass
        for future in futures:
            if future.done():
                future.result()
        if finished:
            return


_ticks = None


def _start(ticks: multiprocessing.Queue) -> None:
    global _ticks
    import torch

    _ticks = ticks
    torch.set_num_threads(1)
    # A worker whose parent was killed would wait for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> Any:
    return task(lambda: _ticks.put(None))
