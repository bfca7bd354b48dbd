"""Batches that someone else makes anew each epoch: a DataLoader, a list, another iterable."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

from steepest.data.foreign import generators, length, restore_generators, sampled, set_epoch
from steepest.snapshot import random_state, restore_random_state, same_random_state_after


class Batches:
    """An iterable of batches, iterated anew each epoch.

    How many batches were used says where an epoch stands, but not what it is: its order and augmentation may come from
    the global generators or from the loader's own. So the state holds what they were when the epoch's iterator was
    made. To go on in the middle the generators are put back, and the batches that were used are made again and dropped;
    then the global generators are left as they were found.

    This is exact unless the sampler or an iterable dataset draws from a global generator all through the epoch, and
    the model from the same one in between; and unless workers that persist draw random numbers.

    say: is called with a sentence when batches are made again.
    """

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.batches: int | None = length(iterable)
        self.samples: int | None = sampled(iterable)
        if self.batches == 0:
            kind = type(iterable).__name__
            raise ValueError(f"The data, of type {kind}, holds no batches; training needs one or more.")
        self.say: Callable[[str], None] = lambda sentence: None
        self._iterable = iterable
        self._persistent = bool(getattr(iterable, "persistent_workers", False))
        self._warm = False  # whether it was iterated before in this process
        self._begun: dict[str, Any] | None = None  # of the epoch that is read: its number, and the generators then
        self._loaded: dict[str, Any] | None = None  # a state that no epoch has gone on from yet

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        loaded, self._loaded = self._loaded, None
        self._warm_up(number)
        if loaded is not None:
            restore_generators(self._iterable, loaded["own"])
            self._begun = loaded["begun"]
        if start and start == self.batches:
            return
        set_epoch(self._iterable, number)
        with same_random_state_after() if start else nullcontext():
            if start:
                self._put_back(number, start)
            self._begun = {"epoch": number, "random": random_state(), "own": generators(self._iterable)}
            batches, self._warm = iter(self._iterable), True
            for _ in islice(batches, start):
                pass
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        """Return what all generators were when the epoch began, and what the loader's own are now."""
        if self._loaded is not None:
            return self._loaded
        return {"begun": self._begun, "own": generators(self._iterable)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch go on from where `state_dict` was taken."""
        self._loaded = state

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        name = type(self._iterable).__name__
        return {"kind": "batches", "type": name, "batches": self.batches, "samples": self.samples}

    def close(self) -> None:
        """Leave the iterable alone: it belongs to whoever made it."""

    def _put_back(self, number: int, start: int) -> None:
        """Make the generators what they were when the epoch began."""
        sentence = f"Reading {start} batch{'es' if start > 1 else ''} of epoch {number} again, to go on after them."
        if self._begun is not None and self._begun["epoch"] == number:
            restore_random_state(self._begun["random"])
            restore_generators(self._iterable, self._begun["own"])
        if self._persistent and number:
            sentence += " Random numbers that persistent workers draw will differ from those of a run without a break."
        self.say(sentence)

    def _warm_up(self, number: int) -> None:
        """Start workers that persist, if an epoch before this one has: only then is a seed drawn for them."""
        if self._persistent and number and not self._warm:
            own = generators(self._iterable)
            with same_random_state_after():
                iter(self._iterable)
            restore_generators(self._iterable, own)
