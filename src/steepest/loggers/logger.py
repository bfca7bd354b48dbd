"""What a logger is to this package: five functions, called from one thread."""

from typing import Any, Protocol

Last = dict[str, int]
"""Series -> the last step of it that was delivered."""


class Logger(Protocol):
    """A place where rows go. Only `Delivery` calls it, from its own thread, `take` apart."""

    name: str

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Open the run that was opened before under this key, or a new one.

        Returns its key, under which it is found again, and its last steps as the place itself knows them; None instead
        of these where it cannot tell.
        """
        ...

    def take(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the series of the row that this place can hold, under the names that they have there."""
        ...

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Hand over what `take` returned, as far as it is new."""
        ...

    def flush(self) -> None:
        """See to it that what was logged outlives this process."""
        ...

    def alert(self, title: str, text: str, step: int) -> None:
        """Show a message."""
        ...

    def close(self, status: str) -> None:
        """End the run: "finished", "stopped" as it got no better, "interrupted" or "failed"."""
        ...


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row, NaN and infinity included; text, None and the step itself are left out."""
    return {
        key: float(value)
        for key, value in row.items()
        if key != "step" and not isinstance(value, str) and hasattr(value, "__float__")
    }
