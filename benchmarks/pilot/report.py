"""Writes docs/pilot-results.md: all tables, of the results that are there."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pilot import compared, score
from pilot.experiments import EXPERIMENTS, compared_files, experiment, file_of
from pilot.run import kind_of, read
from pilot.score import Row
from pilot.workloads import PARTS

PAGE = Path(__file__).parents[2] / "docs" / "pilot-results.md"
HEAD = """# The pilot, measured

Made by `python benchmarks/pilot report` of the results in `benchmarks/pilot/results/`; nothing here is written by hand.
With each table stands the command that makes its runs. `make bench-pilot` makes those of steepest anew and prints the
same tables. [The pilot](pilot.md) says what is decided and why.
"""
RULES = """
Every loss that a contender asks for is counted as steps, with gradients or without, those of probes too. None sees
validation data, and all are judged by their weights at the end. A sweep has rates half a decade apart, further out
until its best is inside, then a quarter of one; the best and its neighbours are run with other seeds as well, and the
best of these is what is compared with.
"""
COMMANDS = "`python benchmarks/pilot sweep --kind KIND`, `python benchmarks/pilot run --contender NAME`"
TITLES = {
    "all": "Against sweeps of rates",
    "tune": "The first half, on which constants may be chosen",
    "fresh": "The second half",
    "unseen": "Written later, without regard to any contender",
}
"""Part of the workloads -> what it is called."""


def write(page: Path = PAGE) -> Path:
    """Write the page; return where."""
    page.write_text(text(), encoding="utf-8")
    return page


def text() -> str:
    """Return the page."""
    rows, parts = score.lines(compared_files()), [HEAD]
    for part in TITLES:
        found = [row for row in rows if row["workload"] in PARTS.get(part, ())]
        if any(kind_of(row["contender"]) is None for row in found):
            parts += compared_with_sweeps(part, found)
    for name, question in EXPERIMENTS.items():
        found = read(file_of(name))
        parts += [f"## {question[:1].upper()}{question[1:]}", f"`python benchmarks/pilot {name}`: {made_on(found)}"]
        parts += [table.markdown() for table in experiment(name).tables(found)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def compared_with_sweeps(part: str, rows: list[Row]) -> list[str]:
    """Return the section of a part; of a half only what is not in the whole already."""
    section = [f"## {TITLES[part]}", f"{len(PARTS[part])} workloads. {COMMANDS}: {made_on(rows)}"]
    tables = compared.tables(rows, part, [])
    if part == "all":
        return [*section, RULES, *(table.markdown() for table in tables)]
    if part in ("tune", "fresh"):
        tables = [table for table in tables if table.title.startswith("Against")]
    return section + [replace(table, note="").markdown() for table in tables]


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
    return "; ".join(words) + "."
