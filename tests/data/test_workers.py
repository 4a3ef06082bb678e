import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from hvs.data import DataError
from hvs.data.workers import Workers


def count(number, tick):
    for _ in range(number):
        tick()
    return number, os.getpid()


def end(tick):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(tick):
    raise DataError("file: broken")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_every_tick_is_counted_and_a_fault_stops_only_its_tasks(workers):
    ticks = []
    with Workers(workers) as pool:
        assert pool.run([], print) == []
        found = pool.run([partial(count, n) for n in (3, 0, 5, 1)], lambda: ticks.append(os.getpid()))
        assert [number for number, _ in found] == [3, 0, 5, 1]
        assert ticks == [os.getpid()] * 9
        assert (os.getpid() in {process for _, process in found}) == (workers == 1)
        if workers > 1:
            with pytest.raises(DataError, match="^workers: one was killed, perhaps for lack of memory"):
                pool.run([partial(count, 1), end], lambda: None)
        with pytest.raises(DataError, match="^file: broken$"):
            pool.run([partial(count, 1), fail, partial(count, 1)], lambda: None)
        assert [number for number, _ in pool.run([partial(count, 1), partial(count, 2)], lambda: None)] == [1, 2]


def test_one_worker_for_each_core_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert Workers().count == 3 and Workers(2).count == 2
    with pytest.raises(DataError, match="^workers: got 0, wanted at least 1$"):
        Workers(0)


def test_workers_end_with_a_parent_that_is_killed():
    # The workers hold the pipe's writing end, so reading it to its end waits for them.
    code = "import tests.data.test_workers as t; t.be_killed()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    # Two processes may write into one another's lines.
    assert "working" in said and not said.replace("working", "").strip()


def be_killed():
    with Workers(2) as pool:
        pool.run([work_for_ever, work_for_ever], lambda: os.kill(os.getpid(), signal.SIGKILL))


def work_for_ever(tick):
    print("working", flush=True)
    tick()
    while True:
        time.sleep(1)
