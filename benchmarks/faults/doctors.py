"""What can watch a run, by name: steepest, its opponents, and two that say nothing."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

OPPONENTS = {
    "lr_too_high": "guesses", "random_cause": "guesses", "nan_plateau": "guards", "spike": "guards",
    "smdebug": "smdebug", "mortem": "mortem",
}  # fmt: skip
"""Name -> the module of `opponents` whose function of that name makes it."""

NAMES = ("steepest", *OPPONENTS, "none", "start")


class Unwatched:
    """Passes batches through and says nothing. most: how many batches it lets through; steps: how many there were."""

    findings: tuple = ()

    def __init__(self, most: int | None = None) -> None:
        self.most, self.steps = most, 0

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches."""
        for batch in batches:
            if self.steps == self.most:
                return
            self.steps += 1
            yield batch


def doctor(name: str, seed: int) -> Callable[..., Any]:
    """Return what is called as `steepest.watch` is. Raises ValueError where there is none of that name.

    "none" lets the run be as it is; "start" ends it after one batch, which shows how good the model was at first.
    """
    if name == "steepest":
        return importlib.import_module("steepest").watch
    if name in OPPONENTS:
        make = getattr(importlib.import_module(f"faults.opponents.{OPPONENTS[name]}"), name)
        return lambda model, optimizer, loss=None, scheduler=None: make(model, optimizer, seed)
    if name not in NAMES:
        raise ValueError(f"No doctor is called {name!r}; there are {', '.join(NAMES)}.")
    return lambda *_, **__: Unwatched(1 if name == "start" else None)
