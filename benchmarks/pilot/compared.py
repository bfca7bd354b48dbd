"""Tables of how contenders did against sweeps. What stands in them is defined in score.py."""

import math
from collections.abc import Iterable
from statistics import median

from pilot.run import FIRST, kind_of
from pilot.score import CLOSE, Result, Row, Rows, collect, compare, geomean, oracle
from pilot.table import Table, loss, number
from pilot.workloads import PARTS

FIXED = ("adamw_0.032", "muon_0.01")
"""Points of the sweeps that are contenders as well: one rate for everything."""

HEAD = (
    "", "clipped", "no pinn", "geomean", "worst", "where", "within 2 %", "time/T", "cpu", "worst cpu", "probe",
    "used/T", "diverged", "spiked",
)  # fmt: skip
NOTE = (
    "Ratios of losses, as geometric means over workloads: clipped to 0.5 and 2; that without equations, which are free "
    "of noise, so that their losses fall by powers of ten and rule every mean; not clipped; the worst. time/T: median "
    "part of the steps until the sweep's best loss was reached. cpu: median, and worst, in units of AdamW's. probe: "
    "median part of the steps before training. used/T: the most."
)


def tables(rows: Iterable[Row], part: str, contenders: list[str]) -> list[Table]:
    """Return the tables of the contenders; of all that are not of a sweep, and of single rates, where none is named."""
    kept = collect(rows, PARTS[part])
    names = contenders or [name for name in kept if kind_of(name) is None] + [name for name in FIXED if name in kept]
    adamw = oracle(kept, ["adamw"])
    swept = {kind for kind in map(kind_of, kept) if kind}
    against = {
        "the AdamW sweep's best": adamw,
        "the best of all sweeps": oracle(kept, list(FIRST)),
        "the best of the AdamW sweep on standardised inputs": oracle(kept, ["standardised"]),
    }
    made = []
    for title, best in against.items():
        compared = {name: compare(kept.get(name, {}), best, adamw) for name in names}
        lines = [[name, *cells(results)] for name, results in compared.items() if results]
        if lines:
            made.append(Table(f"Against {title}", HEAD, lines, NOTE if best is adamw else ""))
    made.append(by_workload(kept, names, adamw, part))
    made.append(bests(kept, part, [kind for kind in FIRST if kind in swept]))
    return [table for table in made if table.rows]


def cells(results: list[Result]) -> list[str]:
    """Return the numbers of a contender."""
    ratios = [each.ratio for each in results]
    calm = [each.ratio for each in results if "pinn" not in each.workload]
    worst = max(results, key=lambda each: each.ratio)
    close, runs = sum(ratio <= CLOSE for ratio in ratios), sum(each.runs for each in results)
    probes = [each.probe for each in results if each.probe is not None]
    return [
        number(geomean(ratios, clipped=True)), number(geomean(calm, clipped=True) if calm else math.nan),
        number(geomean(ratios)), number(worst.ratio, 2), worst.workload, f"{close}/{len(ratios)}",
        number(median(each.time for each in results), 2), number(median(each.cpu for each in results), 2),
        number(max(each.cpu for each in results), 2), f"{median(probes):.1%}" if probes else "-",
        number(max(each.used for each in results)), f"{sum(each.diverged for each in results)}/{runs}",
        f"{sum(each.spiked for each in results)}/{runs}",
    ]  # fmt: skip


def by_workload(kept: dict[str, Rows], names: list[str], adamw: Rows, part: str) -> Table:
    """Return the ratios on every workload."""
    columns = {name: {each.workload: each for each in compare(kept.get(name, {}), adamw, adamw)} for name in names}
    lines = [
        [workload, *(number(found[workload].ratio) if workload in found else "-" for found in columns.values())]
        for workload in PARTS[part]
        if any(workload in found for found in columns.values())
    ]
    return Table("Ratio to the AdamW sweep's best, by workload", ["", *names], lines)


def bests(kept: dict[str, Rows], part: str, kinds: list[str]) -> Table:
    """Return the best rate of every sweep, and its loss."""
    found = {kind: oracle(kept, [kind]) for kind in kinds}
    lines = []
    for workload in PARTS[part]:
        rows = {kind: [row for (name, _), row in best.items() if name == workload] for kind, best in found.items()}
        if any(rows.values()):
            line = [workload]
            for each in rows.values():
                line += [best_rate(each), mean_loss(each)]
            lines.append(line)
    head = [word for kind in kinds for word in (kind, "loss")]
    return Table("Best rate of each sweep, and its mean loss over its seeds", ["", *head], lines)


def best_rate(rows: list[Row]) -> str:
    """Return the rate and, in brackets, how many seeds it was run with."""
    return f"{rows[0]['contender'].rpartition('_')[2]} ({len(rows)})" if rows else "-"


def mean_loss(rows: list[Row]) -> str:
    """Return the mean loss."""
    losses = [math.inf if row["final"] is None else row["final"] for row in rows]
    return loss(sum(losses) / len(losses)) if losses else "-"
