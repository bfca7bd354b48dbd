"""Which plants hurt: runs that nobody watches, with the fault and without, over several seeds.

A plant that does not hurt is no fault to be found: it counts as a control. How much one hurts is measured as a share of
the progress that the healthy twin makes from its first step to its end, so that errors, squared errors and likelihoods
are compared by one rule.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median, pstdev

from faults.case import Case
from faults.runs import RESULTS, Order, Rows, make, read

FILE = RESULTS / "verify.jsonl"
SEEDS = (0, 1, 2)
LOST, AGREED, SLOWER = 0.05, 0.8, 3.0
"""A plant hurts that costs this share of the progress, in this share of the seeds; or makes steps so much slower."""


@dataclass(frozen=True)
class Harm:
    """What a plant does. start, twin, faulty: medians over seeds; lost: share of the progress; slower: times.

    learns: the twin ends better than it began.
    """

    start: float
    twin: float
    faulty: float
    lost: float
    slower: float
    learns: bool
    hurts: bool


def orders(cases: Iterable[Case], seeds: Iterable[int] = SEEDS) -> list[Order]:
    """Return the runs to make: three for each seed of a plant, two for one seed of a control."""
    found = []
    for case in cases:
        if case.causes:
            for seed in seeds:
                found += [Order(case.name, variant, "none", seed) for variant in ("faulty", "twin")]
                found.append(Order(case.name, "twin", "start", seed))
        else:
            found += [Order(case.name, "control", name, 0) for name in ("none", "start")]
    return found


def verify(cases: Iterable[Case], seeds: Iterable[int] = SEEDS, jobs: int = 1, again: bool = False) -> Rows:
    """Make the runs that are missing, or all of them again; return all."""
    return make(orders(cases, seeds), FILE, jobs, again)


def harms(rows: Rows | None = None) -> dict[str, Harm]:
    """Return case -> what its plant does, for those that were verified; of controls, whether they learn."""
    rows = read(FILE) if rows is None else rows
    return {name: harm(name, rows) for name in dict.fromkeys(order.case for order in rows)}


def harm(name: str, rows: Rows) -> Harm:
    """Return what the plant of that name does."""
    mine = {order: row for order, row in rows.items() if order.case == name}
    seeds = sorted({order.seed for order in mine})
    sound = "twin" if any(order.variant == "twin" for order in mine) else "control"
    start, twin, faulty = (
        [_final(mine.get(Order(name, variant, doctor, seed))) for seed in seeds]
        for variant, doctor in ((sound, "start"), (sound, "none"), ("faulty", "none"))
    )
    if sound == "control":
        faulty = twin
    progress = median(start) - median(twin)
    pairs = list(zip(faulty, twin, strict=True))
    lost = _share(median(faulty) - median(twin), progress)
    apart = median(faulty) - median(twin) >= (pstdev(twin) if all(map(math.isfinite, twin)) else 0.0)
    agreed = sum(bad > good for bad, good in pairs) >= AGREED * len(pairs)
    times = [_seconds(mine, name, variant) for variant in ("faulty", sound)]
    slower = times[0] / times[1] if all(times) else 1.0
    hurts = (lost >= LOST and agreed and apart) or slower >= SLOWER
    return Harm(median(start), median(twin), median(faulty), lost, slower, progress > 0, hurts)


def _final(row: dict | None) -> float:
    """Return the final measure; what is not a number, or is not there, is as bad as can be."""
    value = float(row["final"]) if row else math.inf
    return math.inf if math.isnan(value) else value


def _share(lost: float, progress: float) -> float:
    if math.isnan(lost) or lost == 0:
        return 0.0
    return lost / abs(progress) if progress and math.isfinite(progress) else math.copysign(math.inf, lost)


def _seconds(rows: Rows, name: str, variant: str) -> float:
    found = [
        row["seconds"] / max(row["steps"], 1) for order, row in rows.items() if order[:3] == (name, variant, "none")
    ]
    return median(found) if found else 0.0
