"""A function is taken where it is not finite."""

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EVENT, EXACT, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import Op, forward_culprit, grown, scene
from steepest.doctor.precision import DOMAIN, HALVES, Inside

LARGE = 1e6
"""Larger numbers are divergence and not the function's fault."""


@cause(
    "E05",
    "outside-of-domain",
    fix="Use log_softmax, logsigmoid, log1p, softplus; or clamp the input, or add an epsilon under the root.",
    when=EVENT,
    weight=EXACT,
    masks="C D E07 E08 B12",
)
def outside_of_domain(lab: Lab) -> Found | None:
    """The loss is suddenly NaN or infinite, such as by log(0), 0 / 0 or acos(1.01).

    Of all functions that the loss calls, in the first step whose loss is not finite, one is given numbers that are
    finite and of ordinary size, and returns some that are not. With its input kept inside of its domain, the loss is
    finite.
    """
    what = scene(lab)
    if what is None or not what.forward or grown(lab, what):
        return None
    found = forward_culprit(lab, what)
    if found is None or found.given is not None or found.op.name not in DOMAIN or found.op.largest > LARGE:
        return None
    if any(each.dtype in HALVES for each in (*found.op.inputs, *found.op.outputs)):
        return None
    with Inside():
        healed = bool(lab.ask(what.twin.copy().model, what.of).isfinite())
    summary = f"{_plain(found.op)} gives a number that is not finite, in the loss of batch {what.of.number}."
    evidence = {"batch": what.of.number, "function": found.op.name, "largest input": found.op.largest}
    return Found(summary, evidence, healed, what.update.step, where=found.op.where)


def _plain(op: Op) -> str:
    if op.name in ("softmax", "log_softmax") and "-inf" in op.bad:
        return f"{op.name} of a row that is masked all over"
    return {"__truediv__": "A division", "div": "A division"}.get(op.name, f"{op.name}()")


def demo(run: Demo) -> None:
    """The logarithm of a share that can be exactly 0."""

    def surprise(model: nn.Module, batch: Rows) -> Tensor:
        parts = model(batch[0]).add(1).relu() if run.faulty else model(batch[0]).exp()
        told = (parts / (parts.sum(1, keepdim=True) + 1e-3)).gather(1, batch[1][:, None])
        return -told.log().mean()

    model = run.network()
    train(run, model, torch.optim.Adam(model.parameters(), lr=5e-3), surprise, run.batches(run.classes()))
