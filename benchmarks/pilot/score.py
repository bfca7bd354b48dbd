"""How contenders did against sweeps, in numbers.

One rule compares losses on all workloads: ratio = (L - f) / (L_oracle - f), the excess over the workload's floor f,
below which no model gets on the validation data. f is 0 unless a workload states another. The flow does: its loss is a
negative log likelihood, which may have any sign, and its floor is the entropy of the data, known because the density
is; its excess is the divergence of the model from the truth.

The oracle of a workload is the rate of the sweep with the lowest mean final loss over the seeds: all rates are run with
seed 0, the best of those and its neighbours with others as well, and among these is the oracle. A contender's seed is
compared with the same seed of the oracle, with seed 0 where that was not run; ratios are averaged geometrically over
seeds.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pilot.run import RESULTS, kind_of, read
from pilot.workloads import PARTS, every

LOW, HIGH, CLOSE = 0.5, 2.0, 1.02
WORST = 100.0
"""What stands for a ratio that is infinite, in a mean that is not clipped."""

SPIKE = 1.5
"""A run has spiked where its validation loss was so many times the initial one."""

Row = dict[str, Any]
Rows = dict[tuple[str, int], Row]
"""(workload, seed) -> the line of results, of one contender."""


class Result(NamedTuple):
    """How a contender did on a workload: over seeds, ratio and time of geometric mean and median.

    time: part of the steps after which the oracle's loss was reached; cpu: in units of AdamW's; probe: part of the
    steps that was used before training began, None where the contender says nothing of it; used: all, in steps.
    """

    workload: str
    ratio: float
    time: float
    cpu: float
    probe: float | None
    used: float
    diverged: int
    spiked: int
    runs: int


def lines(files: Iterable[Path]) -> list[Row]:
    """Return the lines of all files."""
    return [row for file in files for row in read(file)]


def collect(rows: Iterable[Row], workloads: Iterable[str]) -> dict[str, Rows]:
    """Return contender -> its lines about the workloads; of two about the same run the later."""
    kept: dict[str, Rows] = defaultdict(dict)
    for row in rows:
        if row["workload"] in workloads:
            kept[row["contender"]][row["workload"], row["seed"]] = row
    return kept


def oracle(kept: dict[str, Rows], kinds: Iterable[str]) -> Rows:
    """Return the lines of the best contender of these sweeps, for each workload.

    Best is the lowest mean over those seeds that each of the sweeps has been run with.
    """
    by_workload: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for name, rows in kept.items():
        if kind_of(name) in kinds:
            for (workload, _), row in rows.items():
                by_workload[workload][name].append(row)
    best: Rows = {}
    for workload, found in by_workload.items():
        for row in _best(found):
            best[workload, row["seed"]] = row
    return best


def _best(found: dict[str, list[Row]]) -> list[Row]:
    """Return the lines of the contender with the lowest mean."""
    seeds: dict[str | None, set[int]] = defaultdict(set)
    for name, rows in found.items():
        seeds[kind_of(name)] |= {row["seed"] for row in rows}
    common = set.intersection(*seeds.values())
    fair = [[row for row in rows if row["seed"] in common] for rows in found.values()]
    most = max(len(rows) for rows in fair)
    return min((rows for rows in fair if len(rows) == most), key=lambda rows: sum(loss(row) for row in rows))


def of_adamw(path: Path = RESULTS / "adamw.jsonl") -> Rows:
    """Return the oracle of the AdamW sweep. Raises ValueError where it has not been made."""
    best = oracle(collect(read(path), PARTS["all"]), ["adamw"])
    if not best:
        raise ValueError("The AdamW sweep comes first: python benchmarks/pilot sweep --kind adamw")
    return best


def compare(rows: Rows, best: Rows, adamw: Rows) -> list[Result]:
    """Return the results on every workload that both have; adamw: whose processor time is the unit."""
    grouped: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for (workload, seed), row in rows.items():
        other = best.get((workload, seed)) or best.get((workload, 0))
        if other is not None:
            grouped[workload].append((row, other))
    return [_result(workload, pairs, adamw) for workload, pairs in grouped.items()]


def _result(workload: str, pairs: list[tuple[Row, Row]], adamw: Rows) -> Result:
    floor = every()[workload].floor
    unit = median([row["cpu"] for (name, _), row in adamw.items() if name == workload] or [math.nan])
    probes = [row["spent"] / row["T"] for row, _ in pairs if "spent" in row]
    return Result(
        workload,
        geomean([ratio(row["final"], other["final"], floor) for row, other in pairs]),
        median([reached(row["curve"], row["initial"], other["final"]) / row["T"] for row, other in pairs]),
        median([row["cpu"] for row, _ in pairs]) / unit,
        median(probes) if probes else None,
        median([row["used"] / row["T"] for row, _ in pairs]),
        sum(row["diverged"] for row, _ in pairs),
        sum(spiked(row) for row, _ in pairs),
        len(pairs),
    )


def loss(row: Row) -> float:
    """Return the final loss, infinite where it is not finite."""
    return math.inf if row["final"] is None else row["final"]


def ratio(mine: float | None, theirs: float, floor: float) -> float:
    """Return the excess over the floor, in units of the other's."""
    return math.inf if mine is None else (mine - floor) / (theirs - floor)


def geomean(ratios: list[float], clipped: bool = False) -> float:
    """Return the geometric mean, of ratios clipped to [.5, 2] or to 100."""
    low, high = (LOW, HIGH) if clipped else (1 / WORST**4, WORST)
    return math.exp(sum(math.log(min(high, max(low, each))) for each in ratios) / len(ratios))


def spiked(row: Row) -> bool:
    """Return whether the validation loss was not finite, or far above the initial one, at some point of the run."""
    initial = row["initial"]
    bound = math.inf if initial is None else SPIKE * initial if initial > 0 else initial + (SPIKE - 1) * abs(initial)
    return any(value is None or value > bound for _, value in row["curve"])


def reached(curve: Iterable[tuple[float, float | None]], initial: float, target: float) -> float:
    """Return where on the curve the loss first was so low, in a line between points; infinite if never."""
    before = (0.0, initial)
    for at, value in curve:
        if value is None:
            return math.inf
        if value <= target:
            share = 1.0 if before[1] == value else (before[1] - target) / (before[1] - value)
            return before[0] + min(1.0, max(0.0, share)) * (at - before[0])
        before = (at, value)
    return math.inf
