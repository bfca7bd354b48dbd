"""A number is too large for half precision."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EVENT, EXACT, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import Scene, forward_culprit, kind, scene
from steepest.doctor.precision import HALVES, IN_SINGLE
from steepest.doctor.replay import Change


@cause(
    "E03",
    "half-precision-overflows",
    fix="Compute this part in float32 (autocast off around it, or .float() before it), or scale its input.",
    when=EVENT,
    weight=EXACT,
    masks="B12 C D E05 E06 E07 E08",
)
def half_overflows(lab: Lab) -> Found | None:
    """The loss is NaN or infinite at certain batches, in half precision.

    A function makes the first number that is not finite in float16 or bfloat16. At the same weights, with the same
    batch, loss and gradient are finite where all is computed in single precision.
    """
    what = scene(lab)
    if what is None:
        return None
    found = forward_culprit(lab, what) if what.forward else None
    if what.forward and (found is None or found.given is not None):
        return None
    tensors = (*found.op.inputs, *found.op.outputs) if found else tuple(what.twin.model.parameters())
    if not any(each.dtype in HALVES for each in tensors) and what.of.autocast is None:
        return None
    if not _finite_in_single(lab, what):
        return None
    name = found.op.name if found else "The gradient"
    summary = f"{name} overflows in half precision at batch {what.of.number}; in single precision it is finite."
    evidence = {"batch": what.of.number, "largest input": found.op.largest if found else 0.0}
    return Found(summary, evidence, True, what.update.step, where=found.op.where if found else "")


def _finite_in_single(lab: Lab, what: Scene) -> bool:
    twin = what.twin.copy()
    IN_SINGLE.prepare(twin)
    assert IN_SINGLE.batch is not None
    with IN_SINGLE.inside():
        value = lab.ask(twin.model, what.of, IN_SINGLE.batch(what.of.batch))
        own = [each for each in twin.model.parameters() if each.requires_grad]
        found = torch.autograd.grad(value, own, allow_unused=True)
    return not kind(value) and not any(kind(each) for each in found if each is not None)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Compute all in single precision."""
    return [IN_SINGLE]


def demo(run: Demo) -> None:
    """Scores are squared in float16."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        scores = model(batch[0]) * 60
        energy = (scores.half() if run.faulty else scores).square().float().mean()
        return nn.functional.cross_entropy(scores / 60, batch[1]) + 1e-6 * energy

    model = run.network()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes()))
