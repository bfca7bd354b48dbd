"""Gradients are cleared between backward and step."""

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab

MOST = 0.9


@cause(
    "A02",
    "zero-grad-before-step",
    fix="Move zero_grad() to before backward(), or to after step().",
    when=STEP,
    weight=EXACT,
    masks="A04 B C D E",
)
def cleared_before_step(lab: Lab) -> Found | None:
    """The loss is flat; no weight moves, and nothing complains.

    Backward gave gradients, and they are empty when the optimizer steps; computed anew they are not."""
    windows = [update for update in lab.history.latest if update.backwards and not update.closure]
    empty = sum(update.empty for update in windows)
    if len(windows) < 3 or empty < MOST * len(windows) or lab.update is None or not lab.update.empty:
        return None
    fresh = lab.fresh[-1] if lab.fresh and lab.fresh[-1].step == lab.update.step else None
    if fresh is None or fresh.length < 1e-8:
        return None
    summary = f"All gradients are empty when the optimizer steps; those of its batch are {fresh.length:.2g} long."
    return Found(summary, {"length": fresh.length, "empty steps": empty}, proven=True)


def demo(run: Demo) -> None:
    """A loop that clears gradients one line too late."""
    model = run.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        if not run.faulty:
            optimizer.zero_grad()
        entropy(model, batch).backward()
        if run.faulty:
            optimizer.zero_grad()
        optimizer.step()
