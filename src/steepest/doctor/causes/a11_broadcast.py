"""Predictions and targets whose shapes make a table of all pairs."""

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.data import filled
from steepest.doctor.demo import Demo, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import CRITERIA, Call

PAIRING = {
    "sub", "rsub", "__sub__", "__rsub__", "subtract", "mul", "__mul__", "__rmul__", "multiply", "div", "add", "__add__",
    "__radd__", "dist", "pow", "true_divide", "__truediv__", "eq", "where", "mse_loss", "l1_loss", "smooth_l1_loss",
    "huber_loss", "binary_cross_entropy_with_logits", "gaussian_nll_loss",
}  # fmt: skip
"""Functions of two tensors that are broadcast together."""

SAME = 1e-5
"""The loss is unchanged where it changes by a smaller part."""

MEANT = {"min", "amin", "max", "amax", "sort", "topk", "cdist", "logsumexp", "softmax", "log_softmax"}
"""What is done with tables of all pairs that are meant."""

KERNELS = {"exp", "clamp"}
"""What is done with such tables, and with other numbers as well: kernels are made so, and margins."""


@cause(
    "A11",
    "broadcast-loss",
    fix="Give both the same shape: squeeze the last axis of the one, or unsqueeze the other.",
    when=STEP,
    weight=EXACT,
    masks="A18 B C D",
)
def broadcast_loss(lab: Lab) -> Found | None:
    """The loss stays at what a constant would lose, or samples count as if their weights were all the same.

    Two tensors of n numbers each, of different shapes, are put together to a table of n times n.

    The loss is the same when the rows of a tensor of the batch are exchanged, and another when its numbers are. Where
    the table could be one of a kernel, this tensor is none that the model is given, and others are bound to their rows.
    """
    seen = anatomy(lab)
    if seen is None:
        return None
    tables = [call for call in seen.seen.calls if call.name in PAIRING and _table(call)]
    if not tables or any(_followed(seen, call, MEANT) for call in tables):
        return None
    free = _loose(lab, seen)
    if not free or (any(_followed(seen, call, KERNELS) for call in tables) and not _bound(lab, seen, free)):
        return None
    loose = free[0]
    one, other = tables[0].inputs[:2]
    summary = (
        f"{tables[0].name} of shapes {tuple(one.shape)} and {tuple(other.shape)} makes a table of all pairs: the loss "
        f"does not change when the rows of tensor {loose} of the batch are exchanged."
    )
    return Found(summary, {"shapes": f"{tuple(one.shape)}, {tuple(other.shape)}", "tensor": loose}, proven=True)


def _table(call: Call) -> bool:
    """Return whether two tensors of as many numbers are broadcast to more, because one has an axis less."""
    if len(call.inputs) < 2:
        return False
    one, other = call.inputs[:2]
    if one.numel() != other.numel() or one.numel() < 2 or one.shape == other.shape:
        return False
    try:
        wide = torch.broadcast_shapes(one.shape, other.shape)
    except RuntimeError:
        return False
    return wide.numel() > one.numel() and (one.ndim != other.ndim or call.function in CRITERIA)


def _followed(seen: Anatomy, call: Call, names: set[str]) -> bool:
    """Return whether something of these is done with the table."""
    table, followed = call.output, {id(call.output)}
    at = next(place for place, each in enumerate(seen.seen.calls) if each is call)
    for later in seen.seen.calls[at + 1 :]:
        if any(id(each) in followed for each in later.inputs):
            if later.name in names and any(each.shape == table.shape for each in later.inputs):
                return True
            followed |= {id(each) for each in tensors(later.output)}
    return False


def _loose(lab: Lab, seen: Anatomy) -> list[int]:
    """Return the places of tensors in the batch whose rows can be exchanged, though their numbers count."""
    found, free = list(tensors(seen.of.batch)), []
    for place, each in enumerate(found):
        if each.ndim == 0 or len(each) < 3 or bool((each == each[:1]).all()):
            continue
        other = each.flip(0).clone()
        other[: len(each) // 2] = other[-1:].clone()
        if _moves(lab, seen, place, each.roll(1, 0)) < SAME < 10 * SAME < _moves(lab, seen, place, other):
            free.append(place)
    return free


def _bound(lab: Lab, seen: Anatomy, free: list[int]) -> bool:
    """Return whether what is loose is not given to the model, and two other tensors belong together row by row."""
    found = list(tensors(seen.of.batch))
    given = {each.data_ptr() for each in seen.inputs}
    if any(found[place].data_ptr() in given for place in free):
        return False
    rest = [place for place, each in enumerate(found) if place not in free and each.ndim and len(each) > 2]
    return sum(_moves(lab, seen, place, found[place].roll(1, 0)) > 10 * SAME for place in rest) > 1


def _moves(lab: Lab, seen: Anatomy, place: int, other: Tensor) -> float:
    """Return by what part the loss changes with another tensor in a place of the batch."""
    found, value = list(tensors(seen.of.batch)), float(seen.value.detach())
    told = float(lab.ask(seen.model, seen.of, _with(seen, found, place, other)).detach())
    return abs(told - value) / max(abs(value), 1e-12)


def _with(seen: Anatomy, found: list[Tensor], place: int, other: Tensor) -> object:
    return filled(seen.of.batch, [*found[:place], other, *found[place + 1 :]])


def demo(run: Demo) -> None:
    """Predictions in a column and targets in a row, compared by hand."""
    model = run.network(outputs=1)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        target = batch[1].squeeze(1) if run.faulty else batch[1]
        return (model(batch[0]) - target).square().mean()

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.numbers()))
