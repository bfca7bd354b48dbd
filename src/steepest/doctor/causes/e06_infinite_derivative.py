"""A function is taken where its derivative is not finite."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EVENT, EXACT, MARK, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import Scene, backward_culprit, grown, kind, scene
from steepest.doctor.precision import Inside
from steepest.doctor.repair_proof import SPARING
from steepest.doctor.replay import Change

OVERFLOWS = ("Mm", "Addmm", "Bmm", "Conv", "Mul", "Exp", "Rnn", "Lstm", "Gru", "Sum", "Mean")
"""Functions whose derivative is not finite only where numbers are too large."""


FIX = "Keep the input off the point: sqrt(x + eps), and for torch.where make the input safe before the function."
MASKS = "B12 C D E05 E07 E08"


@cause("E06", "infinite-derivative", fix=FIX, when=EVENT, weight=EXACT, masks=MASKS)
def infinite_derivative(lab: Lab) -> Found | None:
    """The loss is finite, and a step later everything is NaN; sqrt at 0 does that, and torch.where with log of 0.

    In the last step whose weights are finite the loss is finite and its gradient is not. Going back through it, the
    function is found that is given a finite derivative and hands on another. With its input kept off that point, the
    gradient is finite.
    """
    what = scene(lab)
    if what is None or what.forward or not what.entries[0] or grown(lab, what):
        return None
    found = backward_culprit(lab, what)
    if found is None or found.name.startswith(OVERFLOWS):
        return None
    with Inside():
        healed = _finite(lab, what)
    name = found.name.removesuffix("0").removesuffix("1").removesuffix("Backward")
    summary = (
        f"The derivative of {name} is not finite at batch {what.of.number}, although the loss is; "
        f"{what.entries[0]} entries of the gradient are NaN, and so is every weight that they reach."
    )
    evidence = {"batch": what.of.number, "function": name, "entries": what.entries[0], "of": what.entries[1]}
    return Found(summary, evidence, healed, what.update.step, where=found.where)


@cause("E06", "infinite-derivative", fix=FIX, when=MARK, weight=EXACT, masks=MASKS)
def poisoned_weights(lab: Lab) -> Found | None:
    """Weights are NaN and the loss is not: a part of the model has silently gone.

    As above, where the loss does not hang on those weights any more.
    """
    if lab.event is not None or lab.loss is None or lab.now < 3:
        return None
    if all(bool(each.isfinite().all()) for each in lab.model.parameters() if each.is_floating_point()):
        return None
    return infinite_derivative.look(lab)


def _finite(lab: Lab, what: Scene) -> bool:
    model = what.twin.copy().model
    own = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(lab.ask(model, what.of), own, allow_unused=True)
    return not any(kind(each) for each in found if each is not None)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Leave such steps out, which have to be few."""
    return [SPARING]


def demo(run: Demo) -> None:
    """A distance, written out, between two rows that happen to be the same."""

    def apart(model: nn.Module, batch: Rows) -> Tensor:
        made = model(batch[0])
        gaps = (made[:-1] - made[1:]).square().sum(1)
        told = (batch[1][:-1] != batch[1][1:]).float()
        return ((gaps if run.faulty else gaps + 1e-6).sqrt() - told).square().mean()

    model = run.network()
    x, kinds = run.classes()
    x[100], kinds[100] = x[101], kinds[101]
    rows = run.batches((x, kinds), 4, shuffle=False)
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), apart, rows)
