"""Momentum of before a change of the rate, or of the loss, throws the run off."""

import torch

from steepest.doctor.cause import EVENT, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better, opening
from steepest.doctor.twin import Twin

JUMP = 3.0
"""The rate has changed by so much from one step to the next."""

BEFORE = 40
"""Steps before the loss blew up within which it has."""


@cause("D12", "memory-of-before", when=EVENT, weight=1.85, masks="D01 D02 D11 C05 C06",
       fix="Clear the optimizer's state, or scale its momentum, where the rate jumps.")  # fmt: skip
def throws_off(lab: Lab) -> Found | None:
    """The loss jumps right after a change of the rate.

    The same steps, at the same rates, do not blow up when the moments are cleared at the change.
    """
    start, jump = opening(lab), _jump(lab)
    if start is None or jump is None or jump < start.step:
        return None

    def clear(twin: Twin, made: int) -> None:
        if made == jump - start.step:
            twin.optimizer.state.clear()

    found = better(lab, Change(f"moments cleared at step {jump}", before=clear))
    if found is None:
        return None
    summary = (
        f"The rate changed at step {jump}, and momentum of before threw the run off: with the moments cleared there "
        f"the loss is at {found.changed:.3g} after the same steps, and not at {found.base:.3g}."
    )
    return Found(summary, found.evidence, proven=True, onset=jump)


def _jump(lab: Lab) -> int | None:
    """Return the last step before the event at which the rate was another than before."""
    rates, event = lab.history.rates, lab.event or 0
    for step in range(min(event + 1, len(rates) - 1), max(0, event - BEFORE), -1):
        low, high = sorted((rates[step - 1], rates[step]))
        if low > 0 and high > JUMP * low:
            return step
    return None


def demo(run: Demo) -> None:
    """Momentum of a hundred steps, gathered at a tiny rate, is kept where the rate jumps."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.99)
    for step, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes()))):
        if step >= 60:
            optimizer.param_groups[0].update(lr=0.4 * (1 - (step - 60) / 80), momentum=0.9)
        if step == 60 and not run.faulty:
            optimizer.state.clear()
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
