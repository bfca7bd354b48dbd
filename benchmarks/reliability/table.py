"""Goals and what came of them, as a plain table."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of the table. goal: what has to be, "" for a number that stands there to be compared with."""

    name: str
    result: str
    goal: str = ""
    met: bool = True


def show(title: str, rows: Iterable[Row]) -> bool:
    """Print the rows; return whether every goal is met."""
    rows = list(rows)
    names, results = (max(len(getattr(row, key)) for row in rows) for key in ("name", "result"))
    print(f"\n{title}")
    for row in rows:
        verdict = "" if not row.goal else f"goal {row.goal}" if row.met else f"goal {row.goal}  MISSED"
        print(f"  {row.name:{names}}  {row.result:{results}}  {verdict}".rstrip(), flush=True)
    return all(row.met for row in rows)


def count(name: str, met: int, of: int) -> Row:
    """Return the row of something that has to be so every time."""
    return Row(name, f"{int(met)} of {of}", "all", met == of)


def at_most(name: str, value: float, bound: float, unit: str, digits: int = 1) -> Row:
    """Return the row of a number that has a bound."""
    return Row(name, f"{value:,.{digits}f}{unit}", f"<= {bound:g}{unit}", value <= bound)
