"""Tables of how contenders did against sweeps.

One rule compares losses on all workloads: ratio = (L - f) / (L_oracle - f), the excess over the workload's floor f,
below which no model gets on the validation data. f is 0 unless a workload states another. The flow does: its loss is a
negative log likelihood, which may have any sign, and its floor is the entropy of the data, known because the density
is; its excess is the divergence of the model from the truth.

The oracle of a workload is the rate of the sweep with the lowest mean final loss over the seeds. A contender's seed is
compared with the same seed of the oracle, with seed 0 where that was not run; ratios are averaged geometrically over
seeds. "no pinn": those are free of noise, so that their losses fall by powers of ten and rule every mean.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pilot.run import FIRST, read
from pilot.workloads import PARTS, every

LOW, HIGH, CLOSE = 0.5, 2.0, 1.02
WORST = 100.0
"""What stands for a ratio that is infinite, in a mean that is not clipped."""

Rows = dict[tuple[str, int], dict[str, Any]]
"""(workload, seed) -> the line of results, of one contender."""


class Result(NamedTuple):
    """How a contender did on a workload: over seeds, ratio and time of geometric mean and median."""

    workload: str
    ratio: float
    time: float
    cpu: float
    used: float
    diverged: int
    runs: int


def show(contenders: list[str], part: str, files: Iterable[Path]) -> int:
    """Print the tables of the contenders, of all that are not of a sweep where none is named; return 1 without any."""
    kept = collect(files, PARTS[part])
    names = contenders or [name for name in kept if name.partition("_")[0] not in FIRST]
    adamw, every_sweep = oracle(kept, ("adamw",)), oracle(kept, tuple(FIRST))
    if not names:
        print(f"No results of a contender for {part}; sweeps: {', '.join(sorted(kept)) or 'none'}.")
        return 1
    head = f"{'clip':>7}{'no pinn':>8}{'geomean':>9}{'worst':>8}  {'where':20}{'<=1.02':>9}{'time/T':>8}{'cpu':>6}"
    for title, best in (("the AdamW sweep's best", adamw), ("the best of all sweeps", every_sweep)):
        print(f"\nagainst {title}\n{'':28}{head}{'used/T':>8}{'diverged':>10}")
        for name in names:
            results = compare(kept.get(name, {}), best, adamw)
            print(f"{name:28}{line(results) if results else '  nothing to compare'}")
    print("\nratios to the AdamW sweep's best")
    columns = {name: {each.workload: each for each in compare(kept.get(name, {}), adamw, adamw)} for name in names}
    for workload in PARTS[part]:
        cells = [f"{found.ratio:9.3f}" if (found := columns[name].get(workload)) else f"{'-':>9}" for name in names]
        print(f"  {workload:20}{''.join(cells)}   {summary(adamw, workload)}")
    return 0


def collect(files: Iterable[Path], workloads: Iterable[str]) -> dict[str, Rows]:
    """Return contender -> its lines about the workloads."""
    kept: dict[str, Rows] = defaultdict(dict)
    for row in (row for file in files for row in read(file) if row["workload"] in workloads):
        kept[row["contender"]][row["workload"], row["seed"]] = row
    return kept


def oracle(kept: dict[str, Rows], kinds: tuple[str, ...]) -> Rows:
    """Return the lines of the contender with the lowest mean over seeds, for each workload."""
    by_workload: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for name, rows in kept.items():
        if name.partition("_")[0] in kinds:
            for (workload, _), row in rows.items():
                by_workload[workload][name].append(row)
    best: Rows = {}
    for workload, found in by_workload.items():
        seeds = max(len(rows) for rows in found.values())
        whole = [rows for rows in found.values() if len(rows) == seeds]
        for row in min(whole, key=lambda rows: sum(loss(row) for row in rows)):
            best[workload, row["seed"]] = row
    return best


def compare(rows: Rows, best: Rows, adamw: Rows) -> list[Result]:
    """Return the results on every workload that both have; adamw: whose processor time is the unit."""
    grouped: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for (workload, seed), row in rows.items():
        other = best.get((workload, seed)) or best.get((workload, 0))
        if other is not None:
            grouped[workload].append((row, other))
    results = []
    for workload, pairs in grouped.items():
        floor = every()[workload].floor
        unit = median([row["cpu"] for (name, _), row in adamw.items() if name == workload] or [math.nan])
        results.append(
            Result(
                workload,
                geomean([ratio(row["final"], other["final"], floor) for row, other in pairs]),
                median([reached(row["curve"], row["initial"], other["final"], row["T"]) for row, other in pairs]),
                median([row["cpu"] for row, _ in pairs]) / unit,
                median([row["used"] / row["T"] for row, _ in pairs]),
                sum(row["diverged"] for row, _ in pairs),
                len(pairs),
            )
        )
    return results


def line(results: list[Result]) -> str:
    """Return the numbers of a contender as one line."""
    ratios = [each.ratio for each in results]
    calm = [each.ratio for each in results if every()[each.workload].family != "pinn"]
    worst = max(results, key=lambda each: each.ratio)
    close = f"{sum(ratio <= CLOSE for ratio in ratios)}/{len(ratios)}"
    diverged = f"{sum(each.diverged for each in results)}/{sum(each.runs for each in results)}"
    without = geomean(calm, clipped=True) if calm else math.nan
    return (
        f"{geomean(ratios, clipped=True):7.3f}{without:8.3f}{geomean(ratios):9.3f}{worst.ratio:8.2f}  "
        f"{worst.workload:20}{close:>9}{median(each.time for each in results):8.2f}"
        f"{median(each.cpu for each in results):6.2f}{max(each.used for each in results):8.3f}{diverged:>10}"
    )


def summary(best: Rows, workload: str) -> str:
    """Return which rate was the best, and its loss, for the first seed."""
    rows = [row for (name, _), row in best.items() if name == workload]
    return f"{rows[0]['contender']} {rows[0]['final']:.5g}" if rows else ""


def loss(row: dict[str, Any]) -> float:
    """Return the final loss, infinite where it is not finite."""
    return math.inf if row["final"] is None else row["final"]


def ratio(mine: float | None, theirs: float, floor: float) -> float:
    """Return the excess over the floor, in units of the other's."""
    return math.inf if mine is None else (mine - floor) / (theirs - floor)


def geomean(ratios: list[float], clipped: bool = False) -> float:
    """Return the geometric mean, of ratios clipped to [.5, 2] or to 100."""
    low, high = (LOW, HIGH) if clipped else (1 / WORST**4, WORST)
    return math.exp(sum(math.log(min(high, max(low, each))) for each in ratios) / len(ratios))


def reached(curve: list[tuple[float, float | None]], initial: float, target: float, steps: int) -> float:
    """Return after what share of its steps a run first had the loss, in a line between points; infinite if never."""
    before = (0.0, initial)
    for at, value in curve:
        if value is None:
            return math.inf
        if value <= target:
            share = 1.0 if before[1] == value else (before[1] - target) / (before[1] - value)
            return (before[0] + min(1.0, max(0.0, share)) * (at - before[0])) / steps
        before = (at, value)
    return math.inf
