"""Tasks in several processes that report their progress to this one."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from .stores import DataError

# Called after each frame.
Tick = Callable[[], Any]
Task = Callable[[Tick], Any]
# Seconds between looks at workers that report nothing.
PATIENCE = 0.2


class Workers:
    """Processes that start with the first tasks, and end with the block.

    Args:
        count: number of processes, by default one per core that may be used; with one, everything runs in this process.

    Raises:
        DataError: the number is not positive.
    """

    def __init__(self, count: int | None = None):
        self.count = _cores() if count is None else count
        if self.count < 1:
            raise DataError(f"workers: got {count}, wanted at least 1")
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._pool:
            self._stop() if kind else self._pool.shutdown()

    def run(self, tasks: list[Task], tick: Tick) -> list[Any]:
        """The results of the tasks, in their order.

        Args:
            tasks: functions of `tick` that can be pickled.
            tick: called here each time that a task calls its own.

        Raises:
            Exception: the first error of any task; what others have finished stays.
        """
        if self.count <= 1 or len(tasks) <= 1:
            return [task(tick) for task in tasks]
        self._start()
        # Processes are started here, and inherit the mask: until they ignore the signal themselves, Ctrl-C would stop
        # them with a traceback.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = [self._pool.submit(_work, task) for task in tasks]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        try:
            self._wait(futures, tick)
        except BrokenProcessPool as error:
            self._stop()
            raise DataError("workers: one was killed, perhaps for lack of memory; try fewer of them") from error
        except BaseException:
            self._stop()
            raise
        return [future.result() for future in futures]

    def _start(self) -> None:
        if not self._pool:
            # Forked processes would share the locks of this process's threads, and could not use its GPU.
            context = multiprocessing.get_context("spawn")
            self._ticks = context.Queue()
            self._pool = ProcessPoolExecutor(self.count, context, _begin, (self._ticks,))

    def _stop(self) -> None:
        """End the processes in the middle of their work; the next tasks start new ones."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
            process.join()
        self._pool = None

    def _wait(self, futures: list[Future], tick: Tick) -> None:
        while True:
            finished = all(future.done() for future in futures)
            try:
                while True:
                    self._ticks.get(timeout=0 if finished else PATIENCE)
                    tick()
            except queue.Empty:
                pass
            for future in futures:
                if future.done():
                    future.result()
            if finished:
                return


def _cores() -> int:
    # A scheduler or a container may grant fewer than the machine has. macOS does not tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_ticks = None


def _begin(ticks: multiprocessing.Queue) -> None:
    global _ticks
    import torch

    _ticks = ticks
    # When a run is interrupted, the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    # A worker whose parent was killed would wait for work forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> Any:
    return task(lambda: _ticks.put(None))
