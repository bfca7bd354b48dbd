"""Gradients are never cleared."""

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.fresh import SAME, Fresh
from steepest.doctor.lab import Lab

WINDOWS = 12
"""Updates in a row that began with gradients there, where there is no loss to compute them anew."""


@cause(
    "A01",
    "missing-zero-grad",
    fix="Call optimizer.zero_grad() before the first backward of each update.",
    when=STEP,
    weight=EXACT,
    masks="A12 A10 B C D E",
)
def missing_zero_grad(lab: Lab) -> Found | None:
    """The loss is noisy and then diverges, or training works with a tiny rate only.

    Gradients were there before the first backward of an update, and the one that is used is that of the batch with
    them added. The gradient of the same batches, computed anew from zero, is what the step would use if they were
    cleared; it is another.
    """
    where = lab.tap.grammar.places.get("backward", "")
    if lab.loss is None:
        return _without_loss(lab, where)
    last = [each for each in lab.fresh if each.step > 0][-2:]
    if lab.update is None or len(last) < 2 or last[-1].step != lab.update.step or not all(map(_added, last)):
        return None
    summary = (
        f"Gradients are not cleared: the one that is used is that of its batch and {last[-1].left:.2g} of "
        f"earlier ones, {last[-1].ratio:.2g} times as long as it should be (cosine {last[-1].cosine:.2f})."
    )
    evidence = {"cosine": last[-1].cosine, "ratio": last[-1].ratio, "cosine with earlier ones": last[-1].with_left}
    return Found(summary, evidence, proven=True, onset=last[0].step, where=where)


def _added(fresh: Fresh) -> bool:
    """Return whether what was left over went into the gradient, and made it another."""
    other = fresh.cosine < 1 - SAME or abs(fresh.ratio - 1) > 0.01
    return fresh.same_loss and fresh.left > 1e-3 * fresh.length and fresh.with_left > 1 - SAME and other


def _without_loss(lab: Lab, where: str) -> Found | None:
    windows = [each for each in lab.history.latest if each.backwards and not each.closure and each.step > 0][-WINDOWS:]
    if len(windows) < 3 or not all(backward.stale for update in windows for backward in update.backwards):
        return None
    summary = "Each backward adds to the gradients of the steps before: they are never cleared."
    return Found(summary, {"updates": len(windows)}, weight=2.5, where=where)


def demo(run: Demo) -> None:
    """A loop without zero_grad()."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        if not run.faulty:
            optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
