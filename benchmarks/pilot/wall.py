"""Seconds on the wall until the validation loss is as low as AdamW's at its end: `steepest.fit` against the loop that
everyone writes, with torch's fused AdamW at the rate that its sweep found.

Both are measured by the same meter: what validation takes is not counted, and neither validates for itself. Runs are
made one after the other in one process, in turns, with a seed for each round.
"""

from collections.abc import Iterable
from math import isfinite
from statistics import median

from pilot.run import Order, kind_of
from pilot.score import Row, of_adamw, reached
from pilot.table import Table, loss, number

WORKLOADS = ("gpt_stdlib", "conv_digits", "student_raw", "finetune_digits")
SEEDS = range(3)
JOBS = 1
POINTS = 50
"""Of validation, in a run; between two of them the loss is taken to go in a line."""


def orders() -> list[Order]:
    """Return the runs to make, in turns."""
    best = of_adamw()
    return [
        Order(name, contender, seed)
        for name in WORKLOADS
        for seed in SEEDS
        for contender in ("steepest", best[name, 0]["contender"])
    ]


def tables(rows: Iterable[Row]) -> list[Table]:
    """Return one: medians of the seconds, and their ratio."""
    rows = list(rows)
    lines = []
    for name in WORKLOADS:
        mine = {row["seed"]: row for row in rows if row["workload"] == name and row["contender"] == "steepest"}
        loops = {row["seed"]: row for row in rows if row["workload"] == name and kind_of(row["contender"]) == "adamw"}
        pairs = [(mine[seed], loops[seed]) for seed in sorted(mine.keys() & loops.keys())]
        if pairs:
            lines.append([name, *cells(pairs)])
    head = ["", "AdamW", "target", "s to it", "steepest, s to it", "s in all", "reached", "ratio"]
    note = "Medians. ratio: of the seconds until the target, steepest's to the loop's; below 1 is faster."
    return [Table("Seconds to AdamW's loss at its end", head, lines, note)] if lines else []


def cells(pairs: list[tuple[Row, Row]]) -> list[str]:
    """Return the numbers of a workload, from the lines of steepest and of the loop."""
    fit = median(time_to(mine, loop["final"]) for mine, loop in pairs)
    loop = median(time_to(loop, loop["final"]) for _, loop in pairs)
    whole = median(mine["seconds"][-1] for mine, _ in pairs)
    there = sum(isfinite(time_to(mine, loop["final"])) for mine, loop in pairs)
    return [
        pairs[0][1]["contender"], loss(median(loop["final"] for _, loop in pairs)), number(loop, 2), number(fit, 2),
        number(whole, 2), f"{there}/{len(pairs)}", number(fit / loop, 2),
    ]  # fmt: skip


def time_to(row: Row, target: float) -> float:
    """Return the seconds after which a run first had the loss."""
    losses = [value for _, value in row["curve"]]
    return reached(zip(row["seconds"], losses, strict=True), row["initial"], target)
