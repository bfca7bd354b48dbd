"""A function of the user's as a logger."""

from collections.abc import Callable
from typing import Any

from steepest.events import is_evaluation
from steepest.loggers.logger import Last


class Function:
    """Calls function(row) once for each row; what it returns is ignored.

    A function cannot be asked what it has done. So the last row is remembered after every call, and one case is left:
    of a process killed between the end of a call and that record, some 0.1 ms, the row of this call comes again.
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], name: str) -> None:
        self.name = name
        self._function = function

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Nothing has to be opened."""
        return None, None

    def take(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the whole row as an element of one of two series, steps and evaluations."""
        return {"evaluation" if is_evaluation(row) else "step": row}

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Call the function."""
        for row in series.values():
            self._function(dict(row))

    def flush(self) -> None:
        """What the function did is done."""

    def alert(self, title: str, text: str, step: int) -> None:
        """A function takes rows only."""

    def close(self, status: str) -> None:
        """Nothing has to be closed."""
