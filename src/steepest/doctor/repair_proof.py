"""What could be changed in a run that goes wrong, and the proof by replay that it helps."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median

import torch
from torch import nn

from steepest.doctor.history import Update
from steepest.doctor.lab import FORK, Lab
from steepest.doctor.nonfinite import kind
from steepest.doctor.precision import HALVES, IN_SINGLE
from steepest.doctor.replay import AS_IT_WAS, Change, Replayed, replay
from steepest.doctor.trial import PROBE
from steepest.doctor.twin import Twin

LEAST = 40
"""Steps that a change is tried for; where fewer are remembered, they are made again and again."""

NEAR = 2
"""Updates before a blow-up that are left out with it."""

BETTER, CALM, WORSE = 0.02, 0.5, 0.1
"""Part of its loss that a change has to take from a run; of a rise, where the run blew up; part by which it may be
worse where all it has to do is that a step can be made at all."""

SOME = 12
"""Losses whose median tells how well a run went before it blew up."""

LIKE = 0.03
"""Part of the best loss within which a milder change is preferred."""


@dataclass(frozen=True)
class Proof:
    """A change that helps: what came of making the updates from a snapshot up to now again with it.

    before, after: the loss in the median of the latest batches, of the run and of the copy. passed: whether that is
    enough. rewinds: whether the copy is what the run would be now; otherwise the change is for what is to come.
    """

    change: Change
    origin: Twin
    updates: list[Update]
    made: Replayed
    before: float
    after: float
    passed: bool
    rewinds: bool = True


LADDER = (
    Change("the batches around it left out"),
    Change("what the optimizer remembers reset", prepare=lambda twin: twin.optimizer.state.clear()),
    Change("half the rate", rate=0.5),
    Change("a tenth of the rate", rate=0.1),
)
"""What is tried against a blow-up whose cause is not known, mildest first."""


def ladder(lab: Lab) -> Sequence[Change]:
    """Return what is tried where no cause is known: all in single precision comes last, if anything is not."""
    dtypes = {each.dtype for each in (*lab.model.parameters(), *lab.model.buffers())}
    narrow = any(each in HALVES for each in dtypes) or any(of.autocast is not None for of in lab.passes(2))
    return (*LADDER, IN_SINGLE) if narrow else LADDER


def origins(lab: Lab, good: Twin | None) -> Iterator[Twin]:
    """Yield the sound snapshots from which every update up to now is remembered: those that come into question first.

    Where a loss blew up these are the latest before that; else the first, for what is wrong has been so from there on.
    """
    known = {each.step: each for each in (lab.start, good, lab.recent) if each is not None and is_sound(each.model)}
    for step in sorted(known, reverse=lab.event is not None):
        early = lab.event is None or step < max(1, lab.event)
        if early and step + len(lab.remembered(known[step], lab.now)) == lab.now > step and lab.licence(known[step]):
            yield known[step]


def is_sound(model: nn.Module) -> bool:
    """Return whether all weights are finite."""
    return not any(kind(each.detach()) for each in model.parameters())


def proofs(lab: Lab, changes: Sequence[Change], start: Twin | None) -> Iterator[Proof]:
    """Try changes, each on the first steps after a snapshot; where there is none, on the latest steps from now on."""
    if start is None:
        yield from (_from_now(lab, each) for each in changes if lab.event is None)
        return
    updates = list(lab.remembered(start, lab.now))
    for change in changes:
        yield _try(lab, change, start, lengthened(updates[:FORK]), as_with(lab, change))


def in_full(lab: Lab, proof: Proof) -> Proof:
    """Make all updates up to now again with a change that was tried on some."""
    if not proof.rewinds:
        return proof
    updates = list(lab.remembered(proof.origin, lab.now))
    return _try(lab, proof.change, proof.origin, updates, proof.before)


def best(found: Sequence[Proof]) -> list[Proof]:
    """Return those that have passed, best first; of those that are alike, the one that was named first."""
    passed = [each for each in found if each.passed]
    least = min((each.after for each in passed), default=0.0)
    alike = [each for each in passed if each.after <= least + LIKE * abs(least)]
    rest = [each for each in passed if each.after > least + LIKE * abs(least)]
    return [*alike, *sorted(rest, key=lambda each: each.after)]


def lengthened(updates: Sequence[Update], least: int = LEAST) -> list[Update]:
    """Return at least so many updates, the same ones again where there are fewer."""
    return list(updates) if len(updates) >= least else list(islice(cycle(updates), least))


def _try(lab: Lab, change: Change, start: Twin, updates: Sequence[Update], before: float) -> Proof:
    kept = [each for each in updates if not _left_out(lab, change, each)]
    made = replay(start, kept, lab.loss, lab.way, change)
    sound = made.finite and len(made.losses) == len(kept) and is_sound(made.twin.model)
    after = typical(lab, copy.deepcopy(made.twin.model), change) if sound else math.inf
    return Proof(change, start, kept, made, before, after, math.isfinite(after) and after <= _bound(lab, before))


def _left_out(lab: Lab, change: Change, update: Update) -> bool:
    return change is LADDER[0] and lab.event is not None and lab.event - NEAR <= update.step <= lab.event


def _bound(lab: Lab, before: float) -> float:
    """Return the loss from which on a change has helped: it has to undo half of a rise, or of a loss that is stuck."""
    if lab.event is None:
        return before - BETTER * abs(before) if math.isfinite(before) else math.inf
    if math.isfinite(before) and not math.isfinite(lab.history.losses[-1]):
        return before + WORSE * abs(before)  # the weights are sound, for the run has left that step out
    told = [each for each in lab.history.losses[: lab.event] if math.isfinite(each)]
    some = [median(told[max(0, end - SOME) : end]) for end in range(len(told), max(0, len(told) - FORK), -SOME // 2)]
    good = min(some, default=lab.scale or 0.0)
    high = min([each for each in (before, told[0] if told else math.inf) if each > good], default=2 * abs(good))
    return good + CALM * (high - good)


def as_with(lab: Lab, change: Change) -> float:
    """Return the loss of the run's weights as they are, where all else is as with a change."""
    twin = Twin.of(lab.model, lab.optimizer, lab.now, lab.modes)
    change.prepare(twin)
    return typical(lab, twin.model, change)


def _from_now(lab: Lab, change: Change) -> Proof:
    """Let a run go on over its latest batches once more, as it is and with a change."""
    now = Twin.of(lab.model, lab.optimizer, lab.now, lab.modes)
    latest = list(lab.history.latest)[-FORK:]
    updates = lengthened([replace(each, settings=latest[-1].settings) for each in latest])
    base = replay(now, updates, lab.loss, lab.way, AS_IT_WAS)
    before = typical(lab, base.twin.model, change) if base.finite else math.inf
    return replace(_try(lab, change, now, updates, before), rewinds=False)


def typical(lab: Lab, model: nn.Module, change: Change = AS_IT_WAS) -> float:
    """Return the median loss of the latest batches on a copy, which is used up; infinite where half are not finite."""
    passes = {id(each.of): each.of for update in lab.history.latest for each in update.backwards}
    losses = []
    for of in list(passes.values())[-PROBE:]:
        batch = of.batch if change.batch is None else change.batch(of.batch)
        with change.inside():
            value = float(lab.ask(model, of, batch).detach())
        losses.append(value if math.isfinite(value) else math.inf)
    return median(losses) if losses else math.nan


def gradient_is_bad(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a gradient is not finite, so that a step would spread it."""
    gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
    return any(not bool(each.isfinite().all()) for each in gradients if not each.is_sparse)


def _spare(twin: Twin) -> None:
    """Let a copy make no step whose gradient is not finite."""

    def forget(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        if gradient_is_bad(optimizer):
            optimizer.zero_grad(set_to_none=True)

    twin.optimizer.register_step_pre_hook(forget)


SPARING = Change("steps whose gradient is not finite are not made", prepare=_spare)
"""What is done about gradients that are not finite where the loss is; in a run such steps are counted and few."""
