"""The verdicts on one optimizer, readable in a terminal."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from steepest.testing.judge import Verdict, as_subject, check
from steepest.testing.law import Law
from steepest.testing.subject import Subject

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {"kept": "✓", "broken": "✗", "excused": "~", "not applicable": "-", "excuse not needed": "!"}
STYLES = {
    "kept": "green",
    "broken": "bold red",
    "excused": "yellow",
    "not applicable": "dim",
    "excuse not needed": "bold yellow",
}


@dataclass(frozen=True)
class Report:
    """All verdicts on one subject; prints as plain text, and as a coloured table on a rich console."""

    subject: Subject
    verdicts: list[Verdict]

    @property
    def good(self) -> bool:
        """Whether no law is broken, but for those declared, and every declaration is needed."""
        return all(verdict.good for verdict in self.verdicts)

    @property
    def summary(self) -> str:
        """One line with the counts."""
        counts = Counter(verdict.outcome for verdict in self.verdicts)
        parts = [f"{counts[outcome]} {outcome}" for outcome in MARKS if counts[outcome]]
        return f"{self.subject}: {', '.join(parts)} of {len(self.verdicts)} laws"

    def __str__(self) -> str:
        width = max((len(verdict.law.name) for verdict in self.verdicts), default=0)
        lines = []
        for verdict in self.verdicts:
            lines.append(f"{MARKS[verdict.outcome]} {verdict.law.name:{width}}  {said(verdict)}".rstrip())
            if not verdict.good:
                lines.append(f"  {'':{width}}  {verdict.reproduce}")
        return "\n".join([*lines, self.summary])

    def __rich__(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 1), caption=self.summary, caption_justify="left")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for verdict in self.verdicts:
            style = STYLES[verdict.outcome]
            note = Text(said(verdict))
            if not verdict.good:
                note.append(f"\n{verdict.reproduce}", style="dim")
            table.add_row(Text(MARKS[verdict.outcome], style=style), Text(verdict.law.name, style=style), note)
        return table


def said(verdict: Verdict) -> str:
    """What the line of a verdict says after the name of the law."""
    if verdict.outcome == "kept":
        return verdict.why and f"({verdict.why})"
    return verdict.why if verdict.outcome == "broken" else f"{verdict.outcome}: {verdict.why}"


def report(
    subject: Subject | str | Callable[..., torch.optim.Optimizer],
    laws: Iterable[Law | str] | None = None,
    **options: Any,
) -> Report:
    """Try an optimizer against the laws and show what came of it: one line a law, numbers where one is broken.

    >>> print(report("torch.optim:SGD", ["closure-is-called", "hooks-fire"], lr=0.1))
    ✓ closure-is-called
    ✓ hooks-fire
    SGD(lr=0.1): 2 kept of 2 laws

    Takes and raises what `check` does.
    """
    subject = as_subject(subject, **options)
    return Report(subject, check(subject, laws))
