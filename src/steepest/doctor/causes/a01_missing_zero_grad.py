"""Gradients are never cleared."""

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab


@cause(
    "A01",
    "missing-zero-grad",
    fix="Call optimizer.zero_grad() before the first backward of each update.",
    when=STEP,
    weight=EXACT,
    masks="A12 B C D E",
)
def missing_zero_grad(lab: Lab) -> Found | None:
    """The loss is noisy and then diverges, or training works with a tiny rate only.

    In each update a gradient was there before the first backward, and the one that is used is not that of the batch.

    The gradient of the same batches, computed anew from zero, is what the step would use if it were cleared.
    """
    windows = [update for update in lab.history.latest if update.backwards and not update.closure]
    stale = [all(backward.stale for backward in update.backwards) for update in windows if update.step > 0]
    if len(stale) < 3 or sum(stale) < 0.95 * len(stale) or lab.update is None:
        return None
    fresh = lab.fresh[-1] if lab.fresh and lab.fresh[-1].step == lab.update.step else None
    if fresh is None:
        return Found("Each backward adds to the gradients of the steps before: they are never cleared.", weight=2.5)
    if not fresh.same_loss or (fresh.cosine > 0.999 and abs(fresh.ratio - 1) < 0.1):
        return None
    summary = (
        f"Gradients are never cleared: the one that is used is {fresh.ratio:.2g} times as long as that of its batch, "
        f"and points elsewhere (cosine {fresh.cosine:.2f})."
    )
    return Found(summary, {"cosine": fresh.cosine, "ratio": fresh.ratio}, proven=True)


def demo(run: Demo) -> None:
    """A loop without zero_grad()."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        if not run.faulty:
            optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
