"""Batches of a loader that says itself where it stands, as torchdata's StatefulDataLoader does."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from steepest.data.foreign import generators, length, restore_generators, sampled, set_epoch
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
        self._early: Iterator[Any] | None = None  # the batches of an epoch that was begun before its turn

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        loaded, self._loaded = self._loaded, None
        set_epoch(self._iterable, number)
        self._begun = True
        if loaded is not None:
            batches = self._restored(loaded)
            if start and start == self.batches:  # some loaders begin the next epoch then, others end this one first
                self._early = batches
                return
        elif self._early is not None:
            batches, self._early = self._early, None
            first = next(batches, self)
            batches = iter(self._iterable) if first is self else chain([first], batches)
        else:
            batches = islice(iter(self._iterable), start, None)
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state, and its own generators, which the state of some loaders lacks before they begin.

        A loader that was not iterated is not asked for its state: some would begin for that.
        """
        if self._loaded is not None:
            return self._loaded
        own = generators(self._iterable)
        return {"own": own, "loader": self._iterable.state_dict()} if self._begun else {"own": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch go on from where `state_dict` was taken."""
        self._loaded = state

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        name = type(self._iterable).__name__
        return {"kind": "batches", "type": name, "batches": self.batches, "samples": self.samples}

    def close(self) -> None:
        """Leave the loader alone: it belongs to whoever made it."""

    def _restored(self, loaded: dict[str, Any]) -> Iterator[Any]:
        """Return the batches that are left. The generators come last: loaders draw from them to go on."""
        if "loader" not in loaded:
            restore_generators(self._iterable, loaded["own"])
            return iter(self._iterable)
        with same_random_state_after():
            self._iterable.load_state_dict(loaded["loader"])
            batches = iter(self._iterable)
        restore_generators(self._iterable, loaded["own"])
        return batches
