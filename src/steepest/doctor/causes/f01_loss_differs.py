"""The loss= that a doctor was given is not what the loop uses: no fault of the training, but nothing can be proven."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, Rows, entropy
from steepest.doctor.fresh import SAME, Fresh
from steepest.doctor.lab import Lab

TIMES, NEAR, STEADY = 3, 0.25, 2e-3
"""Of so many comparisons: losses differ by a larger part each time, to one side, by a factor that does not stay."""

SAME_NUMBER = 1e-6
"""Part by which a loss may differ from itself."""

FIX = "Give st.watch the loss(model, batch) that the loop calls, with all of its terms; or none."


@cause("F01", "loss-differs", fix=FIX, weight=0.5)
def loss_differs(lab: Lab) -> Found | None:
    """The training may be healthy: what differs is what the doctor was told of it.

    loss= fails for every batch of the loop; or it gives, of the same batch and weights, another number and a gradient
    of another direction than the loop uses, each time, though it gives the same when it is asked twice.
    """
    if lab.loss is None and lab.failures:
        failed = lab.failures[0].rstrip(".")
        return Found(f"loss= fails with the batches of the loop: {failed}.", {"failed": len(lab.failures)}, True)
    some = lab.fresh[:TIMES]
    if not _differ(some) or not _repeats(lab):
        return None
    told, own = some[0].told[0], some[0].own[0]
    summary = f"The loop's loss is {told:.4g} where loss= gives {own:.4g}, of the same batch and weights."
    return Found(summary, {"of the loop": told, "of loss=": own, "cosine": some[0].cosine}, True)


def _differ(some: Sequence[Fresh]) -> bool:
    """Return whether losses differ, to one side, by more than a factor; gradients point elsewhere as well."""
    pairs = [(each.told[0], each.own[0]) for each in some if each.left == 0 and each.cosine < 1 - SAME]
    if len(pairs) < TIMES or not all(math.isfinite(a) and math.isfinite(b) and a * b > 0 for a, b in pairs):
        return False
    logs = [math.log(a / b) for a, b in pairs]
    one_side = all(each > NEAR for each in logs) or all(each < -NEAR for each in logs)
    return one_side and max(logs) - min(logs) > STEADY


def _repeats(lab: Lab) -> bool:
    """Return whether loss= gives the same of a batch when other random numbers are drawn."""
    of, model = lab.passes(1)[0], lab.twin()
    other = replace(of, random={**of.random, "torch": torch.Generator().manual_seed(1).get_state()})
    first, second = (float(lab.ask(model, each).detach()) for each in (of, other))
    return abs(second - first) <= SAME_NUMBER * abs(first)


def demo(run: Demo) -> None:
    """A doctor is told of a squared error where the loop uses a cross-entropy."""

    def squared(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
        return (model(batch[0]).softmax(1) - torch.nn.functional.one_hot(batch[1], 3)).square().mean()

    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, squared if run.faulty else entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
