"""A scheduler that is called per batch though made for epochs, or the reverse."""

import torch
from torch.optim import lr_scheduler

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.schedule import FACTORS, calls, epoch, foreseen, scheduler
from steepest.doctor.trial import better

GONE = 0.02
"""A rate is gone where it is less than this part of its greatest."""

LOW = 0.5
"""A rate that is still rising is low where it is less than this part of what it will be."""


@cause(
    "A23",
    "scheduler-misplaced",
    fix="Call scheduler.step() once an epoch, or make the scheduler for as many calls as there are batches.",
    when=MARK,
    weight=REPLAYED + 0.9,
    masks="D03 D05 D06",
)
def stepped_too_often(lab: Lab) -> Found | None:
    """The loss falls at first and then stays, in the first epoch.

    The rate falls to nothing within an epoch, or is on the way: a copy of the scheduler is let run as it is called.

    The same steps at the rate they began with, on a copy, go better.
    """
    rates, length = lab.history.rates, epoch(lab)
    if lab.now < 25 or not rates or rates[0] <= 0:
        return None
    made = scheduler(lab) if rates[-1] < rates[0] else None
    if not _collapses(lab, made, length):
        return None
    change = Change("the first rate", rate=lambda step: rates[0] / rates[step] if 0 < rates[step] < rates[0] else 1.0)
    gained = better(lab, change)
    if gained is None:
        return None
    kind = type(made).__name__ if made is not None else "the schedule"
    summary = (
        f"The rate falls to {min(rates) / rates[0]:.2g} of itself in {len(rates)} batches: {kind} is stepped per batch."
    )
    return Found(summary, {"first rate": rates[0], "rate": rates[-1], **gained.evidence}, proven=True)


def _collapses(lab: Lab, made: object, length: int | None) -> bool:
    """Return whether the rate is gone within an epoch, or within half of one where it is no scheduler for epochs."""
    rates = lab.history.rates
    peak = max(rates)
    if made is None or calls(made) < 0.9 * lab.now:
        early = rates[: max(1, length or 0)]
        return (
            made is None
            and length is not None
            and length >= 10
            and min(early) < GONE * peak
            and max(rates[-3:]) < GONE * peak
        )
    ahead = foreseen(lab, made, 2 * (length or 0))
    known = [*rates, *ahead[1:]][: (length or 0) + 1]
    kind = type(made).__name__
    if kind == "CosineAnnealingLR" and length is not None:
        return calls(made) > getattr(made, "T_max", 0) and length >= 2 * getattr(made, "T_max", 0)
    if kind in FACTORS:
        return (length is not None and length >= 10 and min(known) < GONE * peak) or _long_gone(rates)
    return length is not None and length >= 10 and len(lab.visits) > 1 and min(known[: length // 2]) < GONE * peak


def _long_gone(rates: list[float]) -> bool:
    """Return whether a rate has been gone for as long as it was there."""
    return max(rates[len(rates) // 2 :]) < GONE * max(rates) and rates.index(max(rates)) < len(rates) / 4


@cause(
    "A23",
    "scheduler-misplaced",
    fix="Call scheduler.step() after each batch, or make the scheduler for as many calls as there are epochs.",
    when=MARK,
    weight=REPLAYED + 0.9,
    masks="D03 D06",
)
def stepped_too_seldom(lab: Lab) -> Found | None:
    """The loss falls very slowly, as if the rate were much too low.

    The scheduler is called once an epoch, and the rate it has reached is little of what it will be: at so many calls
    that they must be batches.

    The same steps at the rates of a call per batch, on a copy, go better.
    """
    made, epochs = scheduler(lab) if lab.visits else None, len([each for each in lab.visits if each.done])
    length = epoch(lab)
    if made is None or not length or length < 4 or lab.now < 25 or calls(made) > max(epochs, 1) + 1:
        return None
    rates = lab.history.rates
    ahead = _from_the_start(lab, made)
    if not ahead or max(ahead) <= 0 or rates[-1] > LOW * max(ahead) or ahead.index(max(ahead)) < 10:
        return None
    wanted = [ahead[min(step, len(ahead) - 1)] for step in range(lab.now)]
    gained = better(lab, Change("per batch", rate=lambda step: wanted[step] / rates[step] if rates[step] else 1.0))
    if gained is None:
        return None
    summary = (
        f"The scheduler was called {calls(made)} times in {lab.now} batches, and its rate, now {rates[-1]:.2g}, is "
        f"greatest after {ahead.index(max(ahead))} calls: it is made for batches."
    )
    return Found(summary, {"rate": rates[-1], "greatest": max(ahead), **gained.evidence}, proven=True)


def _from_the_start(lab: Lab, made: object) -> list[float]:
    """Return the rates of each call from the first one."""
    first = lab.history.rates[0]
    ahead = foreseen(lab, made, 1000)
    return [first] * calls(made) + ahead


def demo(run: Demo) -> None:
    """A rate that is to be halved each epoch is halved each batch."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    doctor, data = run.watch(model, optimizer, entropy, scheduler), run.classes()
    for _ in range(6):
        for batch in doctor(list(run.batches(data, 1))):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
            if run.faulty:
                scheduler.step()
        if not run.faulty:
            scheduler.step()
