"""Seconds on the wall until the validation loss is as low as AdamW's was at its end: `steepest.fit` against the loop
that everyone writes, with torch's fused AdamW at the rate that its sweep found.

Both are measured by the same meter: what validation takes is not counted, and neither validates for itself. Runs are
made one after the other in one process, in turns, a seed for each round; the target is the sweep's of the same seed.
"""

from collections.abc import Iterable
from statistics import median

from pilot.run import Order
from pilot.score import Row, Rows, of_adamw, reached
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
        for contender in ("steepest", oracle(best, name, seed)["contender"])
    ]


def oracle(best: Rows, name: str, seed: int) -> Row:
    """Return the line of the sweep that says what is to be reached."""
    return best.get((name, seed)) or best[name, 0]


def tables(rows: Iterable[Row]) -> list[Table]:
    """Return one: medians of the seconds, and their ratio."""
    by_run = {(row["workload"], row["contender"], row["seed"]): row for row in rows}
    best = of_adamw() if by_run else {}
    lines = []
    for name in WORKLOADS:
        targets = {seed: oracle(best, name, seed) for seed in SEEDS} if by_run else {}
        mine = [(by_run.get((name, "steepest", seed)), row["final"]) for seed, row in targets.items()]
        other = [(by_run.get((name, row["contender"], seed)), row["final"]) for seed, row in targets.items()]
        if mine and all(row for row, _ in mine + other):
            lines.append([name, *cells(mine, other)])
    head = ["", "AdamW", "target", "s to it", "s in all", "steepest: s to it", "s in all", "reached", "ratio"]
    note = f"Medians of {len(SEEDS)}. ratio: of the seconds to the target, steepest's to the loop's; below 1 is faster."
    return [Table("Seconds to the loss of the AdamW sweep's best", head, lines, note)] if lines else []


def cells(mine: list[tuple[Row, float]], other: list[tuple[Row, float]]) -> list[str]:
    """Return the numbers of a workload, from lines and the losses that they should reach."""
    seconds = [[time_to(row, target) for row, target in runs] for runs in (other, mine)]
    loop, fit = (median(each) for each in seconds)
    whole = [f"{median(row['seconds'][-1] for row, _ in runs):.2f}" for runs in (other, mine)]
    there = sum(each < float("inf") for each in seconds[1])
    return [
        other[0][0]["contender"], loss(median(target for _, target in mine)), number(loop, 2), whole[0],
        number(fit, 2), whole[1], f"{there}/{len(mine)}", number(fit / loop, 2),
    ]  # fmt: skip


def time_to(row: Row, target: float) -> float:
    """Return the seconds after which a run had the loss, which may be one in the sixth digit higher."""
    losses = [value for _, value in row["curve"]]
    course = zip(row["seconds"], losses, strict=True)
    return reached(course, row["initial"], target + 1e-5 * abs(target))
