"""Gradients arrive, and nothing is done with them."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from steepest.doctor.cause import EXACT, IDLE, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab

AGAIN = 2
"""So many times the same rows have come again, with no step in between."""

ALONE, LONG, ENDLESS = 2, 24, 192
"""Backward passes whose gradients were cleared unused, in a row, or two of them in a longer time; and passes after
which nobody can be gathering gradients any more."""


@cause(
    "A03",
    "step-not-called",
    fix="Call step() on the optimizer that holds the model's parameters, with parentheses, after backward().",
    when=IDLE,
    weight=EXACT,
    masks="A02 A04 A05 A06 B C D E",
)
def step_not_called(lab: Lab) -> Found | None:
    """The loss is flat; no weight moves, and nothing complains.

    Backward passes give finite gradients, which are cleared again, or gathered without end, or longer than it takes to
    go through the data twice; the optimizer does not step.

    The weights that receive them are bit for bit what they were some batches ago, so no one else moves them either.
    """
    heard = lab.tap.unstepped
    now = {id(each): each.detach().clone() for each in _chosen(lab)}
    before, then = lab.notes.get("idle", ({}, 0))
    if then and 0 < heard - then < 3:
        return None
    lab.notes["idle"] = (now, heard)
    if (
        not now
        or not 0 < then < heard
        or any(id_ not in before or not torch.equal(before[id_], value) for id_, value in now.items())
    ):
        return None
    grammar = lab.tap.grammar
    lost = grammar.wasted >= ALONE or (grammar.lost >= 2 and heard >= LONG) or heard >= ENDLESS
    lost = lost or (heard >= LONG and _comes_again(lab))
    if not lost or not _finite(lab):
        return None
    others = len([each for each in lab.tap.foreign if each is not lab.optimizer])
    summary = f"{heard} backward passes gave gradients, and no step of the optimizer followed: no weight has moved."
    if others:
        summary += f" {others} other optimizers step, which do not move them."
    return Found(
        summary,
        {"backward passes": heard, "steps": lab.now},
        proven=True,
        onset=lab.now,
        where=grammar.places.get("backward", ""),
    )


def _comes_again(lab: Lab) -> bool:
    """Return whether each row of the first batch since the last step has come in two later ones: nothing new is added.

    The weights are the same, so that the gradient of all rows is but multiplied.
    """
    passes = {id(each.of): each.of for each in lab.tap.waiting}
    first, *later = [_rows(of.batch) for of in passes.values()]
    seen = Counter(row for some in later for row in some)
    return len(first) > 1 and all(seen[row] >= AGAIN for row in first)


def _rows(batch: object) -> set[bytes]:
    """Return the rows of the largest tensor in a batch, as they are in memory."""
    largest = max([each for each in tensors(batch) if each.ndim > 1], key=Tensor.numel, default=None)
    return set() if largest is None else {row.tobytes() for row in largest.detach().double().cpu().numpy()}


def _chosen(lab: Lab) -> Sequence[Tensor]:
    """Return the smallest few parameters that are trained."""
    return sorted((each for each in lab.model.parameters() if each.requires_grad), key=Tensor.numel)[:3]


def _finite(lab: Lab) -> bool:
    """Return whether gradients are finite: a scaler that sees others does not step, which is another matter."""
    found = [each.grad for each in lab.model.parameters() if each.grad is not None]
    return all(bool(each.isfinite().all()) for each in found if not each.is_sparse)


def demo(run: Demo) -> None:
    """A loop that names the method and does not call it."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        if not run.faulty:
            optimizer.step()
