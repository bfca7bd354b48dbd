"""A model that does not look at its input."""

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy, dissect, seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.data import filled
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.unread import holes_only, redrawn, unread
from steepest.doctor.vary import Change, asked, double, noise

SIZES = (1.0, 30.0, 1000.0)
"""Of the random numbers that are put in the place of an input."""


@cause(
    "A18",
    "input-not-used",
    fix="Follow the input through forward(): another variable is read in its place, or it is multiplied by zero.",
    when=STEP,
    weight=EXACT,
    masks="B C D",
)
def input_not_used(lab: Lab) -> Found | None:
    """The loss stays at what the best constant would lose.

    Whatever the model is given, its output is the same to the last bit, in double precision; or what the model is
    given is the same whatever is in the batch. Or a part of it is read by layers that no gradient reaches; or it is to
    fill in places, and does not look at the others. It is so from the first look on: what died later was not cut off.

    The input is exchanged between rows, and replaced by zeros and by random numbers of several sizes, on a copy; and
    so it is with weights drawn anew: where those hear the input, it is the weights that are at fault.
    """
    if not seldom(lab, "A18"):
        return lab.notes.get("A18 said")
    seen = anatomy(lab)
    if seen is None:
        return None
    how = _how(lab, seen)
    before = lab.notes.setdefault("A18", how)
    if not how or how != before or lab.now == 0:
        lab.notes["A18"] = before if how == before else "heard it once"
        return None
    lab.notes["A18 said"] = Found(f"{how}: the prediction does not hang on it.", {"changes tried": 5}, proven=True)
    return lab.notes["A18 said"]


def _how(lab: Lab, seen: Anatomy) -> str:
    try:
        if _deaf(seen):
            return "The model gives the same for every input"
    except (RuntimeError, ValueError, TypeError, IndexError):
        pass
    if _cut_off(lab, seen):
        return "What the model is given is the same for every batch"
    try:
        return unread(lab, seen) or holes_only(lab, seen)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return ""


def _deaf(seen: Anatomy) -> bool:
    """Return whether the outputs of the model are the same for all that it could be given."""
    given = [each for each in seen.inputs if each.numel() > 1]
    if not given or not seen.outputs or not any(each.requires_grad for each in seen.outputs):
        return False
    if _same(asked(seen), asked(seen, lambda each: noise(each, 3.0))) is False:
        return False
    model, make = double(seen)
    first = asked(seen, make, model)
    changes = [lambda each: make(each.roll(1, 0) if each.ndim else each), lambda each: make(torch.zeros_like(each))]
    changes += [lambda each, size=size: make(noise(each, size)) for size in SIZES]
    return all(_same(first, asked(seen, change, model)) for change in changes) and not _hears(seen, model, make)


def _hears(seen: Anatomy, model: nn.Module, make: Change) -> bool:
    """Return whether the model hears its input once its weights are others, which training could have made."""
    for other in redrawn(model):
        first = asked(seen, make, other)
        if not _same(first, asked(seen, lambda each: make(noise(each, 1.0)), other)):
            return True
    return False


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _cut_off(lab: Lab, seen: Anatomy) -> bool:
    """Return whether nothing in a batch reaches the model, nor do random numbers, though part of it counts."""
    found = list(tensors(seen.of.batch))
    if seen.given is None or len(found) < 2 or any(each.ndim == 0 for each in found):
        return False
    first = [each.detach().clone() for each in seen.inputs]
    counts, seeds = 0, dict(seen.of.random)
    for place, each in enumerate(found):
        some = [each.roll(1, 0), noise(each, 1.0)]
        for other in some:
            batch = filled(seen.of.batch, [*found[:place], other, *found[place + 1 :]])
            try:
                told = dissect(lab, seen.of, batch)
            except (RuntimeError, ValueError, IndexError, TypeError):
                return False
            if not _same(first, [one.detach() for one in told.inputs]):
                return False
            counts += float(told.value.detach()) != float(seen.value.detach())
    return counts > 0 and not _random(lab, seen, first, seeds)


def _random(lab: Lab, seen: Anatomy, first: list[Tensor], seeds: dict) -> bool:
    """Return whether what the model is given is drawn at random."""
    torch.manual_seed(12345)
    other = type(seen.of)(seen.of.number, seen.of.batch, {**seeds, "torch": torch.get_rng_state()}, seen.of.autocast)
    return not _same(first, [each.detach() for each in dissect(lab, other).inputs])


class Stuck(nn.Module):
    """A network. stuck: it reads an example instead."""

    def __init__(self, net: nn.Module, stuck: bool) -> None:
        super().__init__()
        self.net, self.stuck = net, stuck
        self.register_buffer("example", torch.ones(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Return what it says."""
        return self.net(self.get_buffer("example").expand(len(x), -1) if self.stuck else x)


def demo(run: Demo) -> None:
    """A forward pass that goes on reading the example it was tried on."""
    model = Stuck(run.network(), run.faulty)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes()))
