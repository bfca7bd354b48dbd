"""The rows that wait for one logger: never more than fit, and none is lost that the event file has."""

import threading
from collections import deque
from typing import Any, NamedTuple

MOST = 10_000
"""So many rows wait in memory."""


class Alert(NamedTuple):
    """A message among the rows."""

    title: str
    text: str
    step: int


class Queue:
    """Rows from the training loop to a logger's thread; `put` only appends and wakes nobody.

    When it is full, rows that the event file has as well are left to that file: `left` counts them, and from the first
    one on all go there, so that they stay in order. Without an event file the oldest row makes room; `lost` counts.
    """

    def __init__(self, filed: bool, most: int = MOST) -> None:
        self._filed, self._most = filed, most
        self._items: deque[dict[str, Any] | Alert] = deque()
        self._lock = threading.Lock()
        self.left, self.lost = 0, 0
        self._last: dict[str, Any] | None = None

    def put(self, item: dict[str, Any] | Alert) -> None:
        """Add a row or a message."""
        with self._lock:
            full = len(self._items) >= self._most
            if self._filed and isinstance(item, dict) and (full or self.left):
                self.left += 1
                self._last = item
                return
            if full:
                self._items.popleft()
                self.lost += 1
            self._items.append(item)

    def get(self) -> dict[str, Any] | Alert | None:
        """Take the oldest, or None when there is none."""
        with self._lock:
            return self._items.popleft() if self._items else None

    def resume(self) -> dict[str, Any] | None:
        """Take rows again instead of leaving them to the file; return the last one that was left there."""
        with self._lock:
            last, self._last, self.left = self._last, None, 0
            return last

    def __len__(self) -> int:
        return len(self._items) + self.left
