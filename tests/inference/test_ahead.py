import threading
from itertools import count

import pytest

from hvs.inference.ahead import ahead


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("items", [[], [1], list(range(20))], ids=len)
def test_the_items_come_in_their_order(items, depth):
    assert list(ahead(iter(items), depth)) == items


def test_items_are_made_before_they_are_asked_for():
    made = threading.Semaphore(0)

    def items():
        for i in count():
            made.release()
            yield i

    reader = ahead(items(), depth=3)
    assert next(reader) == 0
    # The first one and the three behind it, without anybody asking for them.
    assert all(made.acquire(timeout=60) for _ in range(4))
    reader.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_a_fault_is_raised_in_its_place():
    def items():
        yield 1
        yield 2
        raise OSError("the third")

    found = []
    with pytest.raises(OSError, match="the third"):
        for item in ahead(items(), depth=2):
            found.append(item)
    assert found == [1, 2]


def test_what_makes_the_items_is_elsewhere():
    (name,) = ahead(threading.current_thread().name for _ in range(1))
    assert name.startswith("ahead")
