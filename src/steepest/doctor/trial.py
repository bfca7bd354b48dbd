"""Whether training goes better with one thing changed: what proves a cause where no invariant can."""

import math
from dataclasses import dataclass

from steepest.doctor.lab import FORK, PROOF, Lab
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin

BY = 0.1
"""A change heals where it gains this part of what there is to gain, beyond the run itself."""

SHORT = 25
"""Updates that a trial needs."""


@dataclass(frozen=True)
class Better:
    """What a change has gained: late losses as it was, with the change, and of the whole run; steps; where it began."""

    base: float
    changed: float
    run: float
    steps: int
    start: int

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers, for a finding."""
        return {"loss as it was": self.base, "loss with it": self.changed, "steps": self.steps, "from step": self.start}


def better(lab: Lab, change: Change, by: float = BY) -> Better | None:
    """Return what a change has gained in a replay, None where it gained too little or replays mean nothing.

    It has to gain `by` of the scale of the loss over the same steps as they were, and half of that over the whole
    run, which has mostly had more steps.
    """
    start = opening(lab)
    if start is None or lab.scale is None or not lab.licence(start):
        return None
    if lab.event is None and len(lab.remembered(start, SHORT)) < SHORT:
        return None
    count = FORK if lab.event is None else max(FORK, lab.event - start.step + 2 * SHORT)
    base, fork = lab.replay(start=start, count=count), lab.replay(change, start, count)
    if base is None or fork is None or not fork.finite:
        return None
    some = max(1, min(8, len(fork.losses) // 4))
    told, changed, run = base.late(some), fork.late(some), lab.late()
    if math.isfinite(told):
        enough = told - changed >= by * lab.scale and not run - changed < by / 2 * lab.scale
    else:
        enough = changed < 1.5 * max(lab.scale, abs(fork.losses[0]))
    return Better(told, changed, run, len(fork.losses), start.step) if enough else None


def opening(lab: Lab) -> Twin | None:
    """Return the snapshot to replay from: the first one, or the latest where a loss blew up beyond its reach."""
    if lab.event is None or lab.start is None or lab.recent is None:
        return lab.start
    reach = len(lab.remembered(lab.start, lab.event + 1))
    near = lab.start.step + reach > lab.event and reach <= 5 * PROOF
    return lab.start if near else lab.recent
