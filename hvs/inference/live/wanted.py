"""The pages that are still to be drawn."""

import threading
from typing import Generic, TypeVar

Page = TypeVar("Page")


class Wanted(Generic[Page]):
    """Pages that want to be redrawn, in the order in which they first asked since they were last drawn.

    Any thread may put pages, one takes them. A page that is taken is drawn as it wants to be by then: however often it
    asked, it is drawn once, and nothing out of date is ever drawn.
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
        """The page that has waited longest; blocks until there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._pages)
            page = next(iter(self._pages))
            del self._pages[page]
            return page
