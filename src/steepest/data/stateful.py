"""Batches of a loader that says itself where it stands, as torchdata's StatefulDataLoader does."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from steepest.data.foreign import length, sampled, set_epoch
from steepest.snapshot import same_random_state_after


def is_stateful(data: Any) -> bool:
    """Whether the data has a state of its own."""
    return all(callable(getattr(data, name, None)) for name in ("state_dict", "load_state_dict"))


class Stateful:
    """An iterable of batches with `state_dict` and `load_state_dict`; it goes on by them, and nothing is read again."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.batches: int | None = length(iterable)
        self.samples: int | None = sampled(iterable)
        self.say: Callable[[str], None] = lambda sentence: None  # there is never a need to
        self._iterable: Any = iterable
        self._begun = False
        self._loaded: dict[str, Any] | None = None

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        if self._loaded and start and start == self.batches:
            return  # a loader whose epoch is over begins the next one when it is iterated
        loaded, self._loaded = self._loaded, None
        set_epoch(self._iterable, number)
        self._begun = True
        if not loaded:
            yield from islice(iter(self._iterable), start, None)
            return
        with same_random_state_after():
            self._iterable.load_state_dict(loaded["loader"])
            batches = iter(self._iterable)
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loader; nothing before it was iterated, for asking would iterate some loaders."""
        if self._loaded is not None:
            return self._loaded
        return {"loader": self._iterable.state_dict()} if self._begun else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch go on from where `state_dict` was taken."""
        self._loaded = state

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        name = type(self._iterable).__name__
        return {"kind": "batches", "type": name, "batches": self.batches, "samples": self.samples}

    def close(self) -> None:
        """Leave the loader alone: it belongs to whoever made it."""
