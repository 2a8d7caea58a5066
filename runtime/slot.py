"""A mailbox with room for one item: between two threads, never a queue that grows."""

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - an end, no error
    """The slot was closed and is empty: nothing will come any more."""


class Slot(Generic[Item]):
    """Holds the newest item. Any thread may call any method."""

    def __init__(self) -> None:
        self.dropped = 0
        self._items: list[Item] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Leave an item, in place of one that nobody has taken (which counts as dropped)."""
        with self._changed:
            self._require_open()
            self.dropped += len(self._items)
            self._items = [item]
            self._changed.notify_all()

    def put_when_free(self, item: Item) -> None:
        """Leave an item once the one before it was taken: nothing is dropped. Raises Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._items)
            self._require_open()
            self._items = [item]
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Take the item, waiting for one; None when none came in time. Raises Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items), timeout_s)
            if self._items:
                item = self._items.pop()
                self._changed.notify_all()
                return item
            self._require_open()
            return None

    def close(self) -> None:
        """Let everybody who waits go on; an item already left can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _require_open(self) -> None:
        if self._closed:
            raise Closed
