"""What is still to be drawn, and for whom."""

import threading
from typing import Generic, TypeVar

Page = TypeVar("Page")


class Wanted(Generic[Page]):
    """Pages that want to be drawn anew, in the order in which they first asked since they were last drawn.

    Any thread puts, one takes. Whoever takes a page draws what it wants by then: however often it asked, it is drawn
    once, and nothing that is out of date is ever drawn.
    """

    def __init__(self) -> None:
        # A dict keeps its order, a set would not.
        self._pages: dict[Page, None] = {}
        self._changed = threading.Condition()

    def put(self, page: Page) -> None:
        with self._changed:
            self._pages[page] = None
            self._changed.notify()

    def drop(self, page: Page) -> None:
        with self._changed:
            self._pages.pop(page, None)

    def take(self) -> Page:
        """The page that waited longest; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._pages)
            page = next(iter(self._pages))
            del self._pages[page]
            return page
