"""What a loop gives its loss of what it is given: a batch as it is, what it holds, or each of its parts in turn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from steepest.doctor.history import Pass, Update
from steepest.doctor.lab import Lab

WHOLE, INNER, EACH = "whole", "inner", "each"
"""The batch; the one thing in it, for loaders wrap a tensor in a list; each of several batches in it, by itself."""


def form(lab: Lab, of: Pass) -> str:
    """Return how the loss takes a batch: another way than as a whole only where that fails and this does not."""
    batch = of.batch
    if not isinstance(batch, list | tuple) or not _are_batches(batch) or not _fails(lab, of, batch):
        return WHOLE
    if any(_fails(lab, of, part) for part in batch):
        return WHOLE
    return INNER if len(batch) == 1 else EACH


def _are_batches(batch: Sequence[Any]) -> bool:
    """Return whether there is one thing in a batch, or several that could be batches themselves."""
    return len(batch) == 1 or (len(batch) > 1 and all(isinstance(each, list | tuple | dict) for each in batch))


def _fails(lab: Lab, of: Pass, batch: Any) -> bool:
    """Return whether loss= cannot be asked of a batch in this form."""
    try:
        lab.ask(lab.twin(), of, batch)
    except Exception:  # whatever a loss raises at what it was not made for
        return True
    return False


def parts(batch: Any, how: str) -> Sequence[Any]:
    """Return what the loss is given of a batch, one after another."""
    return (batch,) if how == WHOLE or not isinstance(batch, list | tuple) or not batch else batch


def divide(update: Update, how: str) -> None:
    """Say of each backward pass of an update which part of a batch it is of, by their order."""
    made: dict[int, list[Pass]] = {}
    for backward in update.backwards:
        of = backward.of
        if id(of) not in made:
            made[id(of)] = [replace(of, batch=part) for part in parts(of.batch, how)]
    counts: dict[int, int] = {}
    for place, backward in enumerate(update.backwards):
        some, count = made[id(backward.of)], counts.get(id(backward.of), 0)
        counts[id(backward.of)] = count + 1
        update.backwards[place] = replace(backward, of=some[count % len(some)])
