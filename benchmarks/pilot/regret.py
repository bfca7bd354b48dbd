"""What another rate would have cost: `steepest.fit` at half the pilot's rate and at twice, against its own.

All rates among the constants of `steepest.pilot.measure` are replaced. A pilot that says what it expects of this has it
in its plan, as {"half": .01, "double": .03} or in words that begin so; that stands beside what was measured.
"""

import importlib
from collections.abc import Iterable
from math import isclose, nan
from statistics import mean, median

from pilot.run import Order
from pilot.score import Row
from pilot.table import Table, percent
from pilot.workloads import PARTS

SEEDS = (0, 1)
FACTORS = {"half": 0.5, "double": 2.0}
NEAR = 0.02


def orders() -> list[Order]:
    """Return the runs to make."""
    contenders = ["steepest", *map(at_times, FACTORS.values())]
    return [Order(name, each, seed) for name in PARTS["all"] for seed in SEEDS for each in contenders]


def at_times(factor: float) -> str:
    """Return the name of steepest with all of the pilot's rates so many times as large."""
    constants = vars(importlib.import_module("steepest.pilot.measure"))
    rates = {name: value for name, value in constants.items() if name.startswith("RATE") and isinstance(value, float)}
    return f"steepest[{','.join(f'{name}={factor * value:.4g}' for name, value in rates.items())}]"


def tables(rows: Iterable[Row]) -> list[Table]:
    """Return one: by what part the loss is higher, measured and predicted."""
    by_run = {(row["workload"], row["contender"], row["seed"]): row for row in rows}
    lines, all_found = [], []
    for name in PARTS["all"]:
        own = [by_run[name, "steepest", seed] for seed in SEEDS if (name, "steepest", seed) in by_run]
        if own:
            found = {which: measured(own, by_run, factor) for which, factor in FACTORS.items()}
            all_found.append(found)
            rate = own[0].get("rate", nan)
            lines.append(
                [name, f"{rate:g}", *map(percent, found.values()), *(predicted(own, which) for which in FACTORS)]
            )
    head = ["", "rate", "half", "twice", "half, predicted", "twice, predicted"]
    return [Table("What another rate would have cost", head, lines, summary(all_found))] if lines else []


def measured(own: list[Row], by_run: dict[tuple[str, str, int], Row], factor: float) -> float:
    """Return the mean over seeds of the part by which the loss was higher; NaN where the rate was not so changed."""
    parts = []
    for row in own:
        other = by_run.get((row["workload"], at_times(factor), row["seed"]))
        if other is None or not isclose(other.get("rate", nan), factor * row.get("rate", nan), rel_tol=1e-3):
            return nan
        if row["final"] is None or other["final"] is None:
            return float("inf")
        parts.append((other["final"] - row["final"]) / abs(row["final"]))
    return mean(parts)


def predicted(own: list[Row], which: str) -> str:
    """Return what the pilot expected, the mean over seeds; "-" where it expected nothing."""
    words = {"half": "half", "double": ("double", "twice")}[which]
    told = [part for row in own for name, part in (row.get("regret") or {}).items() if name.startswith(words)]
    return percent(mean(told)) if told else "-"


def summary(found: list[dict[str, float]]) -> str:
    """Return the median of each column, and how often the other rate was better."""
    words = []
    for which in FACTORS:
        parts = [each[which] for each in found if each[which] == each[which]]
        if parts:
            better = sum(part < -NEAR for part in parts)
            words.append(
                f"{which}: median {percent(median(parts))}, on {better} of {len(parts)} better by more than {NEAR:.0%}"
            )
    return f"Higher loss than at the pilot's own rate, mean of {len(SEEDS)} seeds. {'; '.join(words)}."
