"""A few values are far out of the range of all others."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.data import filled
from steepest.doctor.demo import Demo, squares, train
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

FAR, NEAR = 60.0, 20.0
"""Deviations from the median beyond which a value is an outlier, and to which it is brought."""

APART = 10.0
"""The same for a value that is there several times to the last bit, such as what stands for none."""

SEVERAL = 3
"""So often it is there, at least."""

FEW = 0.03
"""Share of values that outliers may be; more are no outliers."""

FIX = "Look at these rows and correct or drop them; or clip the values, or use a Huber loss."
MASKS = "B02 B10 C D"


@cause("B12", "outliers", fix=FIX, when=MARK, weight=REPLAYED + 0.1, masks=MASKS)
def outliers(lab: Lab) -> Found | None:
    """The loss has spikes at certain batches, or is ruled by a few rows.

    A few values, in the targets or inputs, lie many times further out than all others. A replay with those values
    brought to the edge of the others gains more, in the loss of batches that have none.
    """
    return _look(lab) if lab.loss is not None and lab.now >= 25 and (lab.sick or _spiky(lab)) else None


@cause("B12", "outliers", fix=FIX, when=EVENT, weight=REPLAYED + 0.1, masks=MASKS)
def outliers_blow_up(lab: Lab) -> Found | None:
    """The loss blows up at a certain batch.

    As above; and the replay with those values brought in does not blow up.
    """
    return _look(lab) if lab.loss is not None else None


def _spiky(lab: Lab) -> bool:
    losses = torch.tensor(lab.history.losses[-200:])
    return bool((losses.abs() > 8 * losses.abs().median()).any())


def _look(lab: Lab) -> Found | None:
    passes = _passes(lab)
    limits = _limits([each.batch for each in passes])
    if not limits:
        return None
    change = winsorised(limits)
    assert change.batch is not None
    far = [of for of in passes if _beyond(of.batch, limits)]
    near = [of for of in passes if not _beyond(of.batch, limits)]
    spared = _clean_gain(lab, change, near[-8:])
    told = better(lab, change, 0.1) if lab.event is not None else None
    if spared is None and told is None:
        return None
    number, size = far[0].number, max(size for _, _, size in limits.values())
    effect = f"{spared[1]:.3g} where it is {spared[0]:.3g}" if spared else "finite"
    summary = (
        f"{len(far)} of {len(passes)} batches have values up to {size:.0f} deviations away from all others, the first "
        f"in batch {number}; with those brought in, the loss of the other batches is {effect}."
    )
    evidence = {"batch": number, "batches": len(far), "deviations": size}
    return Found(summary, {**evidence, **(told.evidence if told else {})}, True, far[0].number)


def _passes(lab: Lab) -> list[Pass]:
    updates = [*lab.history.first, *lab.history.latest]
    return list({id(each.of): each.of for update in updates for each in update.backwards}.values())


def _limits(batches: Sequence[Any]) -> dict[int, tuple[float, float, float]]:
    """Return place -> least and greatest value that is no outlier and the largest distance, where there are some."""
    found = {}
    columns = [list(tensors(batch)) for batch in batches]
    for place in range(min((len(each) for each in columns), default=0)):
        values = torch.cat([each[place].detach().flatten().double() for each in columns])
        if not columns[0][place].is_floating_point() or len(values) < 50:
            continue
        values = values[values.isfinite()]
        some = values[:: max(1, len(values) // 100_000)]
        low, middle, high = torch.quantile(some, torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
        spread = max((high - low) / 3.3, 1e-12)
        away = (values - middle).abs() / spread
        limit = FAR if not _stands_for_none(values[away > APART]) else APART
        share = float((away > limit).double().mean())
        if 0 < share < FEW and high > low:
            edge = min(NEAR, limit) * spread
            found[place] = (middle - edge, middle + edge, float(away.max()))
    return found


def _stands_for_none(far: Tensor) -> bool:
    """Return whether far values are one and the same, as none that was measured would be."""
    return len(far) >= SEVERAL and bool((far == far[0]).all())


def _beyond(batch: Any, limits: dict[int, tuple[float, float, float]]) -> bool:
    own = list(tensors(batch))
    return any(bool(((own[at] < low) | (own[at] > high)).any()) for at, (low, high, _) in limits.items())


def winsorised(limits: dict[int, tuple[float, float, float]]) -> Change:
    """Return the change that brings outliers to the edge of what is none."""

    def bring_in(place: int, value: Tensor) -> Tensor:
        return value.clamp(limits[place][0] / 4, limits[place][1] / 4) if place in limits else value

    def change(batch: Any) -> Any:
        return filled(batch, [bring_in(place, each) for place, each in enumerate(tensors(batch))])

    return Change("outliers brought in", batch=change)


def _clean_gain(lab: Lab, change: Change, near: Sequence[Any]) -> tuple[float, float] | None:
    """Return the loss of batches without outliers, after replays as it was and with the change, if that gains."""
    start = lab.start
    if start is None or lab.scale is None or not near or not lab.licence():
        return None
    if not lab.event and not any(_reaches(lab, change, update) for update in lab.remembered(start, 60)):
        start = lab.recent
        if start is None or not lab.licence(start):
            return None
    base, fork = lab.replay(start=start), lab.replay(change, start)
    if base is None or fork is None or not fork.finite:
        return None
    own, mended = (_mean(lab, each.twin.model, near) for each in (base, fork))
    typical = sorted(abs(float(lab.ask(start.copy().model, of).detach())) for of in near)[len(near) // 2]
    own = own if own == own else float("inf")
    gained = own - mended >= 0.1 * min(typical, max(lab.scale, 1e-12)) and mended < 0.8 * own
    return (own, mended) if gained else None


def _reaches(lab: Lab, change: Change, update: Any) -> bool:
    """Return whether an update has a batch that the change would change."""
    assert change.batch is not None
    pairs = [(each.of.batch, change.batch(each.of.batch)) for each in update.backwards]
    return any(not torch.equal(one, other) for a, b in pairs for one, other in zip(tensors(a), tensors(b), strict=True))


def _mean(lab: Lab, model: Any, passes: Sequence[Any]) -> float:
    return sum(float(lab.ask(model, of).detach()) for of in passes) / len(passes)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Bring outliers to the edge of all other values."""
    return [winsorised(_limits([each.batch for each in _passes(lab)]))]


def demo(run: Demo) -> None:
    """Three targets have lost their decimal point."""
    model = run.network(8, 1)
    x, y = run.numbers()
    if run.faulty:
        y[[40, 200, 400]] *= 3000
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), squares, run.batches((x, y), 5))
