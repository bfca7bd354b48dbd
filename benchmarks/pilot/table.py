"""A table, to be printed or put into a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap


@dataclass(frozen=True)
class Table:
    """title: what it is about; head: a name for each column; note: what is to be known to read it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Return it for a terminal, the first column to the left and the others to the right."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        laid = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join(["", self.title, *wrap(self.note, 118), *(f"  {line}".rstrip() for line in laid)])

    def markdown(self) -> str:
        """Return it for a page."""
        ruler = ["---", *["--:"] * (len(self.head) - 1)]
        lines = ["| " + " | ".join(line) + " |" for line in [self.head, ruler, *self.rows]]
        return "\n\n".join([f"**{self.title}**", *filter(None, [self.note]), "\n".join(lines)])


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals; "inf" where there is none, for what is not finite is kept as None."""
    return "inf" if value is None or math.isinf(value) else "-" if math.isnan(value) else f"{value:.{digits}f}"


def loss(value: float | None) -> str:
    """Return a loss in four digits."""
    return "inf" if value is None or not math.isfinite(value) else f"{value:.4g}"


def percent(part: float) -> str:
    """Return a part of something with its sign."""
    return "-" if math.isnan(part) else "inf" if math.isinf(part) else f"{part:+.1%}"
