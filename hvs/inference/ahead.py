"""Results computed in advance: frames are decoded while the networks compute."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

THREADS = 4
# Items in the queue per thread, finished ones included.
AHEAD = 4


def ahead(function: Callable[[S], T], items: Iterable[S], threads: int = THREADS) -> Iterator[T]:
    """``map(function, items)``, computed in advance by threads, in the order of the items.

    An exception is raised in place of the item's result. When the reader stops, so do the threads.
    """
    items = iter(items)
    with ThreadPoolExecutor(threads, "ahead") as pool:
        waiting = deque(pool.submit(function, item) for item in islice(items, AHEAD * threads))
        try:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(items, 1))
                yield done
        finally:
            for future in waiting:
                future.cancel()
