"""Gradients are cleared between backward and step."""

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab


@cause(
    "A02",
    "zero-grad-before-step",
    fix="Move zero_grad() to before backward(), or to after step().",
    when=STEP,
    weight=EXACT,
    masks="A03 A04 A06 A07 A18 B C D E",
)
def cleared_before_step(lab: Lab) -> Found | None:
    """The loss is flat; no weight moves, and nothing complains.

    Backward gave gradients, and they are empty when the optimizer steps, twice in a row.

    Computed anew they are not; without a loss to do so, it is known only where they are None, which backward does not
    leave them.
    """
    update = lab.update
    if update is None or not update.backwards or update.closure or not update.empty:
        return None
    where = lab.tap.grammar.places.get("step", "")
    before = [each for each in lab.history.latest if each.backwards][-1:]
    if not before or not before[0].empty:
        return None
    last = lab.fresh[-2:]
    if len(last) == 2 and last[1].step == update.step and all(each.ratio == 0 and each.length > 1e-8 for each in last):
        length = last[1].length
        summary = f"All gradients are empty when the optimizer steps; those of its batch are {length:.2g} long."
        return Found(summary, {"length": length}, proven=True, onset=last[0].step, where=where)
    if lab.loss is None and all(each.grad is None for each in lab.stepped()):
        return Found("Backward gave gradients, and there are none when the optimizer steps.", weight=2.5, where=where)
    return None


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
