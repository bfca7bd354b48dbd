"""Writes docs/pilot-results.md: all tables, of the results that are there."""

from collections.abc import Iterable
from pathlib import Path

from pilot import compared, score
from pilot.experiments import EXPERIMENTS, compared_files, experiment, file_of
from pilot.run import kind_of, read
from pilot.score import Row
from pilot.workloads import FRESH, PARTS, TUNE

PAGE = Path(__file__).parents[2] / "docs" / "pilot-results.md"
HEAD = """# The pilot, measured

Made from `benchmarks/pilot/results/` by `python benchmarks/pilot report`; nothing here is written by hand. `make
bench-pilot` makes the runs. [The pilot](pilot.md) says what is decided and why.
"""
ALL = """## Against sweeps of rates

{all} workloads, made by `python benchmarks/pilot run` and `sweep`. Every loss, with gradients or without, is counted as
steps, those of probes too; no contender sees validation data, and all are judged by the weights at the end. A sweep has
rates half a decade apart, further out until its best is inside, then a quarter; the best and its neighbours are run
with more seeds.
"""
HALVES = """## In two halves

Constants may be chosen with the {tune} workloads of the first half in sight: {tunes}. The {fresh} of the second
judge them.
"""


def write(page: Path = PAGE) -> Path:
    """Write the page; return where."""
    page.write_text(text(), encoding="utf-8")
    return page


def text() -> str:
    """Return the page."""
    rows = score.lines(compared_files())
    parts = [HEAD, made_on(rows), ALL.format(all=len(PARTS["all"]))]
    parts += [table.markdown() for table in compared.tables(rows, "all", [])]
    parts.append(HALVES.format(tune=len(TUNE), tunes=", ".join(TUNE), fresh=len(FRESH)))
    for title, part in (("Constants may be chosen here", "tune"), ("Constants are judged here", "fresh")):
        parts += [f"### {title}", *(table.markdown() for table in compared.tables(rows, part, [])[:1])]
    for name, question in EXPERIMENTS.items():
        found = read(file_of(name))
        parts += [f"## {question[:1].upper()}{question[1:]}", f"`python benchmarks/pilot {name}`; {made_on(found)}"]
        parts += [table.markdown() for table in experiment(name).tables(found)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def made_on(rows: Iterable[Row]) -> str:
    """Return on what the runs were made, and of which commits those of steepest are; a + is what was not committed."""
    rows = list(rows)
    if not rows:
        return "not run yet."
    words = [f"{len(rows)} runs"]
    for name in ("processor", "machine", "cores", "python", "torch"):
        found = sorted({str(row["versions"][name]) for row in rows if row["versions"].get(name)})
        words += [f"{name} {', '.join(found)}"] if found else []
    own = sorted({row["versions"]["commit"] for row in rows if row["contender"].startswith("steepest")})
    words += [f"steepest of commit {', '.join(own)}"] if own else []
    sweeps = sum(kind_of(row["contender"]) is not None for row in rows)
    return "; ".join([*words, f"{sweeps} of the runs are of sweeps"] if sweeps else words) + "."
