"""A model in which the rows of a batch see each other."""

import math

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy, seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.data import rows
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.vary import apart, asked, evaluating

MOVED = 1e-3
"""What the other rows are makes no difference if outputs change by less, as a part of their deviation."""


@cause(
    "A19",
    "rows-mixed",
    fix="Look for view or reshape where transpose or permute is meant, softmax over axis 0, and batch_first.",
    when=STEP,
    weight=EXACT,
    masks="B C D",
)
def rows_mixed(lab: Lab) -> Found | None:
    """It trains, predicts worse one row at a time, and depends on the batch size.

    In evaluation mode, what the model gives for the first rows of a batch is another when the other rows are.

    The other rows are exchanged on a copy; the first axis is that of rows, since each row has one label or is one.
    """
    if not seldom(lab, "A19", 2):
        return lab.notes.get("A19 said")
    seen = anatomy(lab)
    if seen is None or not _has_rows(lab, seen):
        return None
    try:
        moved = _moved(seen, len(next(tensors(seen.of.batch))))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    if moved < MOVED:
        return None
    summary = f"What the model says of a row changes with the other rows of its batch, by {moved:.2g} deviations."
    lab.notes["A19 said"] = Found(summary, {"moved by": moved}, proven=True)
    return lab.notes["A19 said"]


def _has_rows(lab: Lab, seen: Anatomy) -> bool:
    """Return whether the first axis is certainly that of rows, and rows are not meant to be mixed."""
    found = list(tensors(seen.of.batch))
    count = rows(seen.of.batch)
    if count is None or count < 4 or seen.given is None:
        return False
    plain = any(each.ndim == 1 or (each.ndim == 2 and each.shape[1] == 1) for each in found)
    if not plain and not (len(found) == 1 and found[0].ndim in (2, 4)):
        return False
    if any(each.ndim > 1 and each.shape[1] == count for each in (*found, *seen.inputs)):
        return False
    if any(each.ndim == 0 or len(each) != count for each in seen.inputs) or not seen.outputs:
        return False
    if any(_batchwise(module) for module in lab.model.modules()):
        return False
    others = [of.batch for of in lab.passes(3) if of is not seen.of]
    return not others or any(not _equal(seen.of.batch, each) for each in others)


def _batchwise(module: nn.Module) -> bool:
    """Return whether a norm takes its statistics from the batch in evaluation, too."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None


def _equal(one: object, other: object) -> bool:
    pairs = list(zip(tensors(one), tensors(other), strict=False))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _moved(seen: Anatomy, count: int) -> float:
    """Return how far outputs of one half move when the other half is made of it, the greater of both ways."""
    half, model = count // 2, evaluating(seen)
    first = asked(seen, None, model)
    if not first or first[0].ndim == 0 or len(first[0]) != count or apart(first[:1], asked(seen, None, model)[:1]) > 0:
        return 0.0
    early, late = slice(0, half), slice(count - half, count)

    def begins(each: Tensor) -> Tensor:
        return torch.cat([each[: count - half], each[early].flip(0)]).detach()

    def ends(each: Tensor) -> Tensor:
        return torch.cat([each[late].flip(0), each[half:]]).detach()

    ways = [(early, begins), (late, ends)]
    moved = [apart([first[0][kept]], [asked(seen, change, model)[0][kept]]) for kept, change in ways]
    return max(moved) if all(map(math.isfinite, moved)) else 0.0


class Weighed(nn.Module):
    """A network whose inputs are weighed by a softmax, over the batch or over the columns."""

    def __init__(self, net: nn.Module, axis: int) -> None:
        super().__init__()
        self.net, self.axis = net, axis

    def forward(self, x: Tensor) -> Tensor:
        """Return what it says."""
        return self.net(8 * x * x.softmax(self.axis))


def demo(run: Demo) -> None:
    """A softmax over the wrong axis."""
    model = Weighed(run.network(), 0 if run.faulty else 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
