"""Whether the pilot's constants hold for other lengths of run: a quarter of the steps, four times, sixteen times.

AdamW beside it has the rate that its sweep found for the usual number of steps, half of that and twice.
"""

from collections.abc import Iterable
from itertools import product
from math import nan

from pilot.run import Order, at
from pilot.score import Row, of_adamw, ratio
from pilot.table import Table, loss, number
from pilot.workloads import every

WORKLOADS = ("residual24", "flow_ring", "tanh12", "lstm_series")
"""Cheap ones whose samples never come again, so that a long run does not learn them by heart."""

LENGTHS = (0.25, 1, 4, 16)
FACTORS = (0.5, 1, 2)
SEED = 0


def orders() -> list[Order]:
    """Return the runs to make."""
    rates = found_rates()
    return [
        Order(lengthened(name, length), contender, SEED)
        for name in WORKLOADS
        for length in LENGTHS
        for contender in contenders(rates[name])
    ]


def found_rates() -> dict[str, float]:
    """Return the best rate of the AdamW sweep for each workload."""
    return {name: float(row["contender"].rpartition("_")[2]) for (name, _), row in of_adamw().items()}


def contenders(rate: float) -> list[str]:
    """Return who is compared where AdamW's best rate is that."""
    return ["steepest", *(at("adamw", factor * rate) for factor in FACTORS)]


def lengthened(name: str, length: float) -> str:
    """Return the name of the workload with that part of its steps."""
    return f"{name}@steps={round(length * every()[name].steps)}"


def tables(rows: Iterable[Row]) -> list[Table]:
    """Return one: losses at every length."""
    finals = {(row["workload"], row["contender"]): row["final"] for row in rows}
    rates = found_rates() if finals else {}
    lines = []
    for name, length in product(WORKLOADS, LENGTHS):
        runs = [(lengthened(name, length), each) for each in contenders(rates[name])] if rates else []
        if runs and all(run in finals for run in runs):
            lines.append([f"{name} x {length:g}", *cells(name, [finals[run] for run in runs])])
    head = ["", "steepest", "AdamW, half", "AdamW", "AdamW, twice", "ratio", "to the best of three"]
    note = (
        "Losses, and steepest's in units of AdamW's at its best rate for the usual steps, and of the best of its three."
    )
    return [Table("Other lengths of run", head, lines, note)] if lines else []


def cells(name: str, losses: list[float | None]) -> list[str]:
    """Return the losses and the ratios."""
    mine, half, whole, twice = losses
    floor = every()[name].floor
    best = min((each for each in (half, whole, twice) if each is not None), default=None)
    ratios = [nan if other is None else ratio(mine, other, floor) for other in (whole, best)]
    return [*map(loss, losses), *map(number, ratios)]
