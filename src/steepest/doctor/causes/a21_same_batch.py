"""A loop that uses the same batch, or the same few rows, again and again."""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.anatomy import seldom
from steepest.doctor.cause import EXACT, MARK, STATISTIC, STEP, Found, cause
from steepest.doctor.data import filled, rows
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.grammar import OWN
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.source import stored

AGAIN = 3
"""So many times the same is no chance."""

FEW = 0.1
"""Of the rows given out, so many are different, where rows come again too often."""

FRAMES, VALUES = 6, 40

FIX = "Take each batch from the iterator of the loop: not next(iter(loader)), nor a variable of an earlier batch."


@cause("A21", "same-batch-again", fix=FIX, when=STEP, weight=EXACT, masks="B05 B11 B C D")
def another_batch_is_used(lab: Lab) -> Found | None:
    """The training loss goes to zero at once, and nothing is learned of other data.

    The loss that is propagated is not that of the batch of the loop, but that of another one, which a variable holds
    that the loop can see.

    With that variable in the place of the batch, the loss is the same to the last bit; twice in a row.
    """
    last = lab.fresh[-1] if lab.fresh else None
    if last is None or lab.update is None or last.step != lab.update.step or len(last.told) != 1:
        return None
    if last.same_loss and last.factor == 1.0:
        lab.notes["A21"] = ""
        return None
    of, told = lab.update.backwards[0].of, last.told[0]
    before, model, name = lab.notes.get("A21", ""), lab.twin(), ""
    for called, batch in _candidates(of.batch):
        try:
            value = float(lab.ask(model, of, batch).detach())
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
        if abs(value - told) <= 1e-6 * abs(told):
            name = called
            break
    lab.notes["A21"] = name
    if not name or name != before:
        return None
    summary = f"The loss is that of `{name}`, and not of the loop's batch: {told:.4g}, not {last.own[0]:.4g}."
    return Found(summary, {"variable": name, "loss used": told, "loss of the batch": last.own[0]}, proven=True)


def _candidates(batch: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the loop can see that could stand for a batch, or for one tensor of it, by name."""
    own = list(tensors(batch))
    shapes = [(each.shape[1:], each.dtype) for each in own]
    for name, value in _variables():
        found = list(tensors(value))
        if not found or all(any(each is other for other in own) for each in found):
            continue
        if [(each.shape[1:], each.dtype) for each in found] == shapes:
            yield name, filled(batch, found)
        elif len(found) == 1 and found[0].ndim:
            for place, (shape, dtype) in enumerate(shapes):
                if (found[0].shape[1:], found[0].dtype) == (shape, dtype) and len(found[0]) == len(own[place]):
                    yield name, filled(batch, [*own[:place], found[0], *own[place + 1 :]])


def _variables() -> Iterator[tuple[str, Any]]:
    """Yield name and value of what the user's functions that are running hold, from within."""
    frame, seen = sys._getframe(1), 0
    while frame is not None and seen < FRAMES:
        name = frame.f_globals.get("__name__", "")
        mine = any(name == own or name.startswith(f"{own}.") for own in OWN) and "demo" not in frame.f_code.co_name
        if not mine:
            seen += 1
            values = [
                (key, value) for key, value in frame.f_locals.items() if isinstance(value, Tensor | list | tuple | dict)
            ]
            yield from [(key, value) for key, value in values if isinstance(value, Tensor) or len(value) < VALUES]
        frame = frame.f_back


@cause("A21", "same-batch-again", fix=FIX, when=STEP, weight=EXACT, masks="B05 B11 B C D")
def one_batch_comes_again(lab: Lab) -> Found | None:
    """The training loss goes to zero at once, and nothing is learned of other data.

    The loop is left after its first batch and begun anew, and gets the same one; or each batch has the same rows, made
    anew, and what they are taken from has more.

    The rows are the same to the last bit, several times.
    """
    if not seldom(lab, "A21 again", 6):
        return None
    passes = [each.backwards[0].of for each in [*list(lab.history.latest)[-AGAIN:]] if each.backwards]
    passes += [lab.update.backwards[0].of] if lab.update is not None and lab.update.backwards else []
    count = rows(passes[-1].batch) if passes else None
    if len(passes) < AGAIN + 1 or count is None or not _all_alike(passes):
        return None
    ended = lab.visits[-AGAIN - 1 : -1]
    begun = len(ended) == AGAIN and all(each.batches == 1 and not each.done for each in ended)
    length = _length(lab.source)
    if begun and (length is None or length > 1):
        summary = f"The loop is left after its first batch and begun anew: the same {count} rows come each time."
        return Found(summary, {"times": len(passes)}, proven=True)
    more = _longer(lab.source, passes[-1].batch, count) or _stored(lab, count)
    if more is None or _one_object(passes):
        return None
    summary = f"Each batch has the same {count} rows, and there are {more}."
    return Found(summary, {"times": len(passes), "rows": more}, proven=True)


def _all_alike(passes: list[Pass]) -> bool:
    first = list(tensors(passes[0].batch))
    others = [list(tensors(each.batch)) for each in passes[1:]]
    return bool(first) and all(
        len(each) == len(first)
        and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, each, strict=True))
        for each in others
    )


def _one_object(passes: list[Pass]) -> bool:
    places = {tuple(each.data_ptr() for each in tensors(of.batch)) for of in passes}
    return len(places) == 1


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _longer(source: Any, batch: Any, count: int) -> int | None:
    """Return how many rows there are where batches come from, if there are more than in one."""
    data = getattr(source, "dataset", None)
    if data is not None and (length := _length(data)) is not None:
        return length if length > count else None
    shapes = {(each.shape[1:], each.dtype) for each in tensors(batch)}
    frame = getattr(source, "gi_frame", None)
    held = dict(frame.f_locals) if frame is not None else dict(getattr(source, "__dict__", {}))
    lengths = [
        len(each) for value in held.values() for each in tensors(value)
        if each.ndim and (each.shape[1:], each.dtype) in shapes and len(each) > count
    ]  # fmt: skip
    return max(lengths, default=None)


def _stored(lab: Lab, count: int) -> int | None:
    """Return how many rows the data set has that batches come from, where it can be seen and has more than a batch."""
    columns = stored(lab)
    return len(columns[0]) if columns and len(columns[0]) > count else None


@cause("A21", "same-batch-again", fix=FIX, when=MARK, weight=0.9 * STATISTIC, masks="B05 D20")
def few_rows_come_again(lab: Lab) -> Found | None:
    """The training loss goes to zero at once, and nothing is learned of other data.

    In one epoch of a data set that has many rows, few different ones have been given out. It is suspected only: a
    sampler may have chosen them.
    """
    total = _length(getattr(lab.source, "dataset", None))
    passes = lab.passes(_length(lab.source) or 0) if total else []
    if not total or len(passes) < 4 or any(rows(each.batch) is None for each in passes):
        return None
    given = (
        [each for of in passes for each in next(iter(tensors(of.batch))).flatten(1).double()] if _flat(passes) else []
    )
    different = len({hash(row.numpy().tobytes()) for row in given})
    if not given or len(given) > total * 1.05 or different > FEW * len(given):
        return None
    summary = f"Of {len(given)} rows that were given out, only {different} are different; the data set has {total}."
    return Found(summary, {"given": len(given), "different": different, "data set": total})


def _flat(passes: list[Pass]) -> bool:
    first = [next(iter(tensors(of.batch))) for of in passes]
    return all(each.ndim > 1 and each.device.type == "cpu" for each in first)


def demo(run: Demo) -> None:
    """A batch that was kept from a first try is what the loss is worked out of."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    example = next(run.batches(run.classes()))
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, example if run.faulty else batch).backward()
        optimizer.step()
