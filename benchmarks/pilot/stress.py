"""How often `steepest.fit` diverges where something is wrong with model, loss, data or numbers.

Diverged is a run that ends with an error, with a loss that is not finite, or above where it began, on the validation
data as it was and by the loss as it was.
"""

from collections.abc import Iterable

from pilot.run import Order
from pilot.score import Row
from pilot.table import Table
from pilot.workloads import every

SEEDS = range(4)
STEPS = 240
SHORT = (
    "conv_digits", "finetune_digits", "gpt_stdlib", "gru_recall", "residual24", "student_raw", "flow_ring",
    "factors_zipf", "pinn_oscillator", "wine_raw",
)  # fmt: skip
WITHOUT_TARGETS = ("gpt_stdlib", "flow_ring", "pinn_oscillator")
"""What has no labels to be wrong."""

CHANGES = {
    "loss x 1e4": "loss=1e4", "loss x 1e-4": "loss=1e-4", "weights x 0.1": "start=0.1", "weights x 10": "start=10",
    "batch / 16": "batch=16", "NaN every 97th": "nan=97", "40 % wrong labels": "labels=0.4",
}  # fmt: skip
PRECISIONS = ("fp16", "bf16")
DEEP = {"40 layers": "layers=40", "40 layers, weights x 1.7": "layers=40@start=1.7"}
"""Of tanh, without normalisation; torch's own first weights lose the signal on the way, 1.7 times as large keep it."""


def orders() -> list[Order]:
    """Return the runs to make."""
    return [Order(*run, seed) for runs in conditions().values() for run in runs for seed in SEEDS]


def conditions() -> dict[str, list[tuple[str, str]]]:
    """Return what is wrong -> (workload, contender)."""
    found = {
        title: [
            (short(name, change), "steepest") for name in SHORT if not change.startswith("labels") or labelled(name)
        ]
        for title, change in CHANGES.items()
    }
    found |= {
        precision: [(short(name), f"steepest[precision={precision}]") for name in SHORT] for precision in PRECISIONS
    }
    return found | {title: [(short("tanh12", change), "steepest")] for title, change in DEEP.items()}


def labelled(name: str) -> bool:
    """Return whether a workload has targets."""
    return name not in WITHOUT_TARGETS


def short(name: str, change: str = "") -> str:
    """Return the name of the workload in a few steps, changed."""
    steps = f"{name}@steps={min(STEPS, every()[name].steps)}"
    return f"{steps}@{change}" if change else steps


def tables(rows: Iterable[Row]) -> list[Table]:
    """Return one: how many runs diverged, for each condition."""
    by_run = {(row["workload"], row["contender"], row["seed"]): row for row in rows}
    lines, all_rows = [], []
    for title, runs in conditions().items():
        made = [by_run[*run, seed] for run in runs for seed in SEEDS if (*run, seed) in by_run]
        if made:
            lines.append([title, *counts(made)])
            all_rows += made
    if all_rows:
        lines.append(["all", *counts(all_rows)])
    head = ["", "runs", "diverged", "of these errors", "where"]
    return [Table("Diverged under stress", head, lines, bound(all_rows))] if lines else []


def counts(rows: list[Row]) -> list[str]:
    """Return how many runs there are, how many diverged, with an error, and where."""
    lost = [row for row in rows if row["diverged"]]
    where = sorted({row["workload"].partition("@")[0] for row in lost})
    return [str(len(rows)), str(len(lost)), str(sum(bool(row["error"]) for row in lost)), ", ".join(where) or "-"]


def bound(rows: list[Row]) -> str:
    """Return what so many runs say about the rate, where none diverged."""
    if not rows or any(row["diverged"] for row in rows):
        return ""
    return f"None of {len(rows)}: with 95 % confidence fewer than {1 - 0.05 ** (1 / len(rows)):.2%} of such runs do."
