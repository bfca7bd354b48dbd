"""Whether training goes better with one thing changed: what proves a cause where no invariant can."""

import math
from dataclasses import dataclass, replace

from steepest.doctor.lab import FORK, PROOF, Lab
from steepest.doctor.replay import AS_IT_WAS, Change
from steepest.doctor.twin import Twin

BY = 0.1
"""A change heals where it gains this part of what there is to gain, beyond the run itself."""

PROBE = 16
"""Batches that two copies are compared on."""

SHORT = 25
"""Updates that a trial needs."""


@dataclass(frozen=True)
class Better:
    """What a change has gained: late losses as it was, with it, and of the whole run; steps; where it began."""

    change: Change
    base: float
    changed: float
    run: float
    steps: int
    start: int

    def share_of(self, other: "Better") -> float:
        """Return what part this change gains of what another does; 1 where the run, as it was, was lost."""
        mine, theirs = self.base - self.changed, other.base - other.changed
        return 1.0 if not math.isfinite(theirs) or theirs <= 0 else mine / theirs

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers, for a finding."""
        return {"loss as it was": self.base, "loss with it": self.changed, "steps": self.steps, "from step": self.start}


def better(lab: Lab, change: Change, by: float = BY, beyond: float | None = None) -> Better | None:
    """Return what a change has gained in a replay, None where it gained too little or replays mean nothing.

    It has to gain `by` of the scale of the loss over the same steps as they were, and half of that, or `beyond`, over
    the whole run, which has mostly had more steps.
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
        enough = (
            told - changed >= by * lab.scale and not run - changed < (by / 2 if beyond is None else beyond) * lab.scale
        )
    else:
        enough = changed < 1.5 * max(lab.scale, abs(fork.losses[0]))
    return Better(change, told, changed, run, len(fork.losses), start.step) if enough else None


def opening(lab: Lab) -> Twin | None:
    """Return the snapshot to replay from: the first one, or the latest where a loss blew up beyond its reach."""
    if lab.event is None or lab.start is None or lab.recent is None:
        return lab.start
    reach = len(lab.remembered(lab.start, lab.event + 1))
    near = lab.start.step + reach > lab.event and reach <= 5 * PROOF
    return lab.start if near else lab.recent


def later(lab: Lab, change: Change, by: float = BY) -> Better | None:
    """Return what a change gains from now on, None where it is less than `by` of the late loss.

    Nobody knows yet how the run goes on: both go on over the latest batches once more, with the latest settings, and
    are compared on the same ones.
    """
    updates = list(lab.history.latest)[-FORK:]
    if lab.loss is None or len(updates) < SHORT or not lab.licence():
        return None
    now = Twin.of(lab.model, lab.optimizer, lab.now, lab.modes)
    again = [replace(update, settings=updates[-1].settings) for update in updates]
    base, fork = (lab.go_on(now, again, each) for each in (AS_IT_WAS, change))
    told, changed = (probe(lab, each.twin) if each.finite else math.inf for each in (base, fork))
    enough = told - changed >= by * abs(told) and math.isfinite(told)
    return Better(change, told, changed, lab.late(), len(fork.losses), lab.now) if enough else None


def heals(lab: Lab, *changes: Change, by: float = BY) -> Better | None:
    """Return what the first of changes that gains enough has gained; in the long run, where training goes well."""
    for change in changes:
        told = better(lab, change, by) if lab.sick or lab.event is not None else longer(lab, change, by)
        if told is not None:
            return told
    return None


def longer(lab: Lab, change: Change, by: float = BY) -> Better | None:
    """Return what a change has gained after all batches that are remembered: what comes right by itself is no fault."""
    first = lab.history.first
    rest = [each for each in lab.history.latest if each.step >= len(first)]
    if lab.start is None or lab.scale is None or len(first) < SHORT or not lab.licence(lab.start):
        return None
    if rest:
        base, fork = (lab.go_on(lab.start, [*first, *rest], each) for each in (AS_IT_WAS, change))
    else:
        base, fork = (lab.replay(each, lab.start) for each in (AS_IT_WAS, change))
    if base is None or fork is None or not base.finite or not fork.finite:
        return None
    told, changed = base.late(), fork.late()
    enough = told - changed >= by * lab.scale
    return Better(change, told, changed, lab.late(), len(fork.losses), lab.start.step) if enough else None


def probe(lab: Lab, twin: Twin, count: int = PROBE) -> float:
    """Return the mean loss of the latest batches on a copy."""
    passes = {id(each.of): each.of for update in lab.history.latest for each in update.backwards}
    losses = [float(lab.ask(twin.model, of).detach()) for of in list(passes.values())[-count:]]
    return sum(losses) / len(losses) if losses else math.nan


READY = 0.8
"""A model whose first loss is a smaller part of the best constant's knows something, and may well go slowly."""


def knows(lab: Lab) -> bool:
    """Return whether the model came with weights that know something."""
    return bool(lab.history.losses) and lab.constant is not None and lab.history.losses[0] < READY * lab.constant
