"""What a law is, and the two things its check may raise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steepest.testing.subject import Subject


class Broken(AssertionError):
    """A law is broken: one sentence with what was found and what was expected."""


class NotApplicable(Exception):
    """A law does not concern this optimizer: one sentence why."""


@dataclass(frozen=True)
class Law:
    """One promise that every optimizer makes, and how to try it.

    `check(subject)` returns None, or a sentence about what it could not try; it raises `Broken` or `NotApplicable`.
    """

    name: str
    says: str
    check: "Callable[[Subject], str | None]"


def law(check: "Callable[[Subject], str | None]") -> Law:
    """Make a law of a check: named after the function, saying the first sentence of its docstring."""
    says = (check.__doc__ or "").strip().split("\n\n")[0]
    return Law(check.__name__.replace("_", "-"), " ".join(says.split()), check)


def sentence(error: BaseException) -> str:
    """Type and first line of an error, short enough for a table."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if len(text) > 160:
        text = text[:157] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
