"""What went wrong with a logger, in sentences, each said once."""

from collections import Counter
from time import monotonic

FAILURES = 3
"""A logger that fails so often in a row is left out."""

STALL = 60.0
"""A logger that is busy with one call for so many seconds is reported."""


class Troubles:
    """Counts failures of a logger's calls and keeps the sentences until somebody asks. `out`: it is left out."""

    def __init__(self, name: str) -> None:
        self.out = False
        self.busy: float | None = None
        self._name = name
        self._in_a_row: Counter[str] = Counter()
        self._failures, self._silent = 0, 0
        self._news: list[str] = []
        self._said: set[str] = set()

    def say(self, what: str) -> None:
        """Keep a sentence about the logger, unless it was said before."""
        if what not in self._said:
            self._said.add(what)
            self._news.append(f"log={self._name!r} {what}")

    def failed(self, call: str, error: BaseException, when: str) -> None:
        """Count a failed call, and leave the logger out after three of its kind in a row."""
        self._in_a_row[call] += 1
        self._failures += 1
        what = words(error)
        if self._in_a_row[call] >= FAILURES:
            self.out = True
            self.say(f"failed {FAILURES} times in a row and is left out from now on; training goes on: {what}")
        elif what not in self._said:
            self._said.add(what)
            self.say(f"failed {when}; training goes on: {what}")
        else:
            self._silent += 1

    def worked(self, call: str) -> None:
        """Count a call that succeeded."""
        self._in_a_row[call] = 0

    def total(self) -> None:
        """Say at the end how often it failed, if it was not said each time."""
        if not self.out and self._silent:
            self.say(f"failed {self._failures} times in all.")

    def news(self) -> list[str]:
        """Return the sentences since the last call."""
        since = self.busy
        if since is not None and not self.out and monotonic() - since > STALL:
            self.say(f"has been busy with one call for {STALL:.0f} s; training goes on, and its rows wait.")
        news = self._news[:]
        del self._news[: len(news)]
        return news


def words(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
