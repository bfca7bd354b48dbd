"""Batches from an iterator, which can be read only once."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from steepest.snapshot import random_state, restore_random_state, same_random_state_after


class Once:
    """An iterator of batches: one pass over them, whatever the epochs are called.

    To go on in another process with a new iterator, as many batches are read and dropped as all epochs have used. In
    the process that used them the iterator stands where it stands.

    say: is called with a sentence when batches are read and dropped.
    """

    batches: int | None = None
    samples: int | None = None

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.say: Callable[[str], None] = lambda sentence: None
        self._iterator, self._used, self._random = iterator, 0, None
        self._loaded: dict[str, Any] | None = None

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches that are left."""
        self._catch_up()
        if self._random is None:
            self._random = random_state()
        for batch in self._iterator:
            self._used += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches were used, and the random state in which the first was asked for."""
        return self._loaded or {"used": self._used, "random": self._random}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch go on from where `state_dict` was taken."""
        self._loaded = state

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        return {"kind": "iterator", "type": type(self._iterator).__name__}

    def close(self) -> None:
        """Leave the iterator alone: it belongs to whoever made it."""

    def _catch_up(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        missing = loaded["used"] - self._used
        if missing <= 0:
            return
        self.say(f"Reading {missing} batch{'es' if missing > 1 else ''} of the iterator again, to go on after them.")
        with same_random_state_after():
            if self._used == 0 and loaded["random"] is not None:
                restore_random_state(loaded["random"])
                self._random = loaded["random"]
            self._used += sum(1 for _ in islice(self._iterator, missing))
