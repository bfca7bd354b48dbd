"""Makes runs in worker processes of one thread each, and writes one line of JSON for each; what is there stays."""

import json
import math
import multiprocessing
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Sweep(NamedTuple):
    """What is swept: contenders of a prefix, beginning with these rates, the lowest and the highest."""

    prefix: str
    lowest: float
    highest: float


FIRST = {
    "adamw": Sweep("adamw", 1e-3, 3.2e-2),
    "muon": Sweep("muon", 1e-3, 3.2e-2),
    "sgd": Sweep("sgd", 1e-2, 3.2e-1),
    "standardised": Sweep("standardised_adamw", 1e-3, 3.2e-2),
}
"""Kind of sweep -> where it begins."""

WIDEST = (1e-6, 1e2)
FIELDS = ("workload", "contender", "seed")


class Order(NamedTuple):
    """A run to make."""

    workload: str
    contender: str
    seed: int


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results, none if it is not there. A last line that was broken off is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Runner:
    """Makes runs and keeps them in a file; a run that is in it already is not made again.

    suite: the folder of one whose workloads are to be known. points: on a curve; as many as usual where not given.
    """

    def __init__(self, path: Path, jobs: int, suite: Path | None = None, points: int | None = None) -> None:
        self.path, self.jobs, self.suite, self.points = path, jobs, suite, points
        self.rows = {Order(*(row[key] for key in FIELDS)): row for row in read(path)}
        if path.exists():
            whole = path.read_bytes().rfind(b"\n") + 1
            with path.open("r+b") as file:
                file.truncate(whole)

    def __enter__(self) -> "Runner":
        """Start the workers. A program that is asked for one job has one worker, for a run is never in this process."""
        os.environ["OMP_NUM_THREADS"] = "1"
        from pilot import harness

        self.path.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(self.jobs, context, harness.warm, (self.suite,))
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def make(self, orders: Iterable[Order]) -> None:
        """Make what is missing of the orders."""
        from pilot import harness

        missing = [order for order in dict.fromkeys(orders) if order not in self.rows]
        points = self.points or harness.POINTS
        for future in as_completed([self.pool.submit(harness.run, *order, points) for order in missing]):
            self.keep(future.result())

    def keep(self, row: dict[str, Any]) -> None:
        """Write a line and tell of it."""
        self.rows[Order(*(row[key] for key in FIELDS))] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        final = "-" if row["final"] is None else f"{row['final']:.5g}"
        print(
            f"{row['workload']:32} {row['contender']:24} {row['seed']}  {final:10} {row['cpu']:6.2f} s {row['error']}"
        )
        sys.stdout.flush()

    def sweep(self, kind: str, workloads: list[str], seeds: list[int]) -> None:
        """Look for the best rate with the first seed, and make runs around it with all.

        Rates are half a decade apart, further out until the best has worse ones on both sides, a quarter next to the
        best. The best and its two neighbours are run with the other seeds as well.
        """
        first = seeds[:1]
        spans = {name: range(quarter(FIRST[kind].lowest), quarter(FIRST[kind].highest) + 1, 2) for name in workloads}
        wider = spans
        while wider:
            self._make(kind, wider, first)
            wider = {name: span for name in wider if (span := self._widened(kind, name, first, spans[name]))}
            spans |= wider
        self._make(kind, {name: self._around(kind, name, first, span) for name, span in spans.items()}, first)
        spans = {name: range(span[0], span[-1] + 1) for name, span in spans.items()}
        self._make(kind, {name: self._around(kind, name, first, span) for name, span in spans.items()}, seeds)

    def _make(self, kind: str, spans: dict[str, range], seeds: list[int]) -> None:
        self.make(
            Order(name, contender(kind, index), seed)
            for name, span in spans.items()
            for index in span
            for seed in seeds
        )

    def _best(self, kind: str, name: str, seeds: list[int], span: range) -> int:
        made = [i for i in span if Order(name, contender(kind, i), seeds[0]) in self.rows]
        return min(made, key=lambda index: self.mean(name, contender(kind, index), seeds))

    def _around(self, kind: str, name: str, seeds: list[int], span: range) -> range:
        best = self._best(kind, name, seeds, span)
        return range(best - 1, best + 2)

    def _widened(self, kind: str, name: str, seeds: list[int], span: range) -> range | None:
        """Return the rates with one more at the end where the best is; None when the best is inside."""
        best = self._best(kind, name, seeds, span)
        if best == span[0] and best > quarter(WIDEST[0]):
            return range(span[0] - 2, span[-1] + 1, 2)
        if (
            best == span[-1]
            and best < quarter(WIDEST[1])
            and math.isfinite(self.mean(name, contender(kind, best), seeds))
        ):
            return range(span[0], span[-1] + 3, 2)
        return None

    def mean(self, name: str, contender: str, seeds: list[int]) -> float:
        """Return the mean final loss over the seeds, infinite where one is not finite."""
        finals = [self.rows[Order(name, contender, seed)]["final"] for seed in seeds]
        return math.inf if None in finals else sum(finals) / len(finals)


def quarter(rate: float) -> int:
    """Return how many quarter-decades above 1 a rate is."""
    return round(4 * math.log10(rate))


def contender(kind: str, index: int) -> str:
    """Return the name of the contender whose rate is so many quarter-decades above 1, in two digits."""
    return at(kind, 10 ** (index / 4))


def at(kind: str, rate: float) -> str:
    """Return the name of the contender of a sweep with that rate, in two digits."""
    return f"{FIRST[kind].prefix}_{rate:.2g}"


def kind_of(contender: str) -> str | None:
    """Return the kind of sweep that a contender is of, None when it is of none."""
    prefix, _, rate = contender.rpartition("_")
    number = re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", rate)
    return next((kind for kind, sweep in FIRST.items() if number and sweep.prefix == prefix), None)
