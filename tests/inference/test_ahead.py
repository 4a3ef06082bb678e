import threading
import time
from itertools import count

import pytest

from hvs.inference.ahead import AHEAD, ahead


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("items", [0, 1, 60])
def test_results_come_in_the_order_of_the_items(items, threads):
    def slower_at_first(item: int) -> int:
        time.sleep(0.002 if item % 3 else 0.004)
        return 2 * item

    assert list(ahead(slower_at_first, range(items), threads)) == [2 * item for item in range(items)]


def test_results_are_made_before_they_are_asked_for_but_not_without_end():
    made = threading.Semaphore(0)
    reader = ahead(lambda item: made.release() or item, count(), threads=2)
    assert next(reader) == 0
    # The first one and those behind it, without anybody asking for them.
    assert all(made.acquire(timeout=60) for _ in range(1 + 2 * AHEAD))
    assert not made.acquire(timeout=0.05)
    reader.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_a_fault_is_raised_in_its_place():
    def broken_at_two(item: int) -> int:
        if item == 2:
            raise OSError("the third")
        return item

    found = []
    with pytest.raises(OSError, match="the third"):
        for item in ahead(broken_at_two, range(9)):
            found.append(item)
    assert found == [0, 1]


def test_the_work_is_done_elsewhere():
    (name,) = ahead(lambda _: threading.current_thread().name, [0])
    assert name.startswith("ahead")
