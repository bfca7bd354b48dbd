"""A value in the data that is not finite."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.cause import EVENT, EXACT, Found, cause
from steepest.doctor.data import mapped, rows, where_bad
from steepest.doctor.demo import Demo, squares, train
from steepest.doctor.history import Update, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import Scene, forward_culprit, kind, scene
from steepest.doctor.replay import Change


@cause(
    "B01",
    "not-finite-data",
    fix="Find where the value comes from; drop the row or fill the value in, before training.",
    when=EVENT,
    weight=EXACT,
    masks="C D E B02 B03 B10 B12",
)
def bad_values(lab: Lab) -> Found | None:
    """The loss is suddenly NaN, and stays so.

    A batch has a value that is not finite, or the loss function takes one from elsewhere, just when the loss ceases
    to be finite. From the weights of the moment before, the loss and its gradient are finite without that value, or
    with the rows of another batch.
    """
    what = scene(lab)
    if what is None:
        return _untried(lab)
    bad = where_bad(what.of.batch)
    if bad is None:
        return _elsewhere(lab, what)
    place, row, count = bad
    healed = _finite(lab, what, mapped(what.of.batch, _filled))
    summary = (
        f"Batch {what.of.number} has values that are not finite: tensor {place}, row {row}"
        f"{f' and {count - 1} more' if count > 1 else ''}; the loss is NaN from there on."
    )
    evidence = {"batch": what.of.number, "tensor": place, "row": row, "rows": count, "finite without": healed}
    return Found(summary, evidence, healed, what.update.step)


def _filled(value: Tensor) -> Tensor:
    return torch.nan_to_num(value, 0.0, 0.0, 0.0) if value.is_floating_point() else value


def _finite(lab: Lab, what: Scene, batch: object) -> bool:
    """Return whether loss and gradient of a batch are finite at the weights of a scene."""
    model = what.twin.copy().model
    value = lab.ask(model, what.of, batch)
    own = [each for each in model.parameters() if each.requires_grad]
    return not kind(value) and not any(
        kind(each) for each in torch.autograd.grad(value, own, allow_unused=True) if each is not None
    )


def _elsewhere(lab: Lab, what: Scene) -> Found | None:
    """Look for data that the loss function has from elsewhere than the batch."""
    found = forward_culprit(lab, what) if what.forward else None
    if found is None or found.given is None or kind(found.given) == "-inf":
        return None
    own = {id(each) for each in (*what.twin.model.parameters(), *what.twin.model.buffers())}
    others = [of for of in lab.passes(8) if of.number != what.of.number and where_bad(of.batch) is None]
    healed = any(_finite(lab, what, of.batch) for of in others)
    if found.given.requires_grad or id(found.given) in own or not healed:
        return None
    summary = f"The data that {found.op.name} is given at batch {what.of.number} are not finite; the loss is NaN."
    return Found(summary, {"batch": what.of.number}, True, what.update.step, where=found.op.where)


def _untried(lab: Lab) -> Found | None:
    """Look at the batches where nothing can be tried."""
    event = -1 if lab.event is None else lab.event
    near: list[Update] = [update for update in lab.history.latest if event - 1 <= update.step <= event]
    for update in near:
        for each in update.backwards:
            bad = where_bad(each.of.batch)
            if bad is not None:
                number = each.of.number
                summary = f"Batch {number} has values that are not finite, in tensor {bad[0]}, row {bad[1]}."
                return Found(summary, {"batch": number, "tensor": bad[0], "row": bad[1]}, onset=update.step)
    return None


def _sound(batch: Any) -> Any:
    """Return a batch without its rows that are not finite; as it is where it has no rows, or only such."""
    if where_bad(batch) is None or not rows(batch):
        return batch
    flat = [each.reshape(len(each), -1) for each in tensors(batch) if each.is_floating_point()]
    good = torch.stack([each.isfinite().all(1) for each in flat]).all(0)
    return mapped(batch, lambda each: each[good]) if bool(good.any()) else batch


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Leave out the rows with such values."""
    return [Change("rows that are not finite left out", batch=_sound)]


def demo(run: Demo) -> None:
    """One NaN in one row."""
    model = run.network(8, 1)
    x, y = run.numbers()
    if run.faulty:
        x[300, 2] = torch.nan
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), squares, run.batches((x, y), 4))
