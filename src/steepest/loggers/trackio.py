"""trackio: a run in the project "steepest" of its local database, or of the server that its environment names."""

import os
import secrets
from importlib import import_module
from typing import Any

from steepest.loggers.logger import Last, numbers

PROJECT = "steepest"


class Trackio:
    """Writes rows; TRACKIO_DIR, TRACKIO_SPACE_ID and TRACKIO_SERVER_URL are kept.

    NaN and infinity are kept. trackio has a thread of its own that writes to its database twice a second; after a kill
    the database tells what has arrived. A remote server is not asked: there up to a second of rows may come twice, or
    be missing. What trackio cannot write it says itself, in a warning, and not to its caller.
    """

    name = "trackio"

    def __init__(self, run: str) -> None:
        self._name = run
        self._trackio = import_module("trackio")
        self._storage = import_module("trackio.sqlite_storage").SQLiteStorage
        self._run: Any = None

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Open a run by its name, which is the key. A new one has random letters: names are not unique in trackio."""
        name = key or f"{self._name}-{secrets.token_hex(3)}"
        resume = "never" if key is None else "allow"
        plain = {str(each): str(value) for each, value in config.items()}
        self._run = self._trackio.init(project=PROJECT, name=name, config=plain, resume=resume, embed=False)
        if os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
            return name, None
        last: Last = {}
        for row in [] if key is None else self._storage.get_logs(PROJECT, name, run_id=self._run.id):
            for series in row:
                last[series] = max(row["step"], last.get(series, -1))
        return name, last

    def take(self, row: dict[str, Any]) -> dict[str, float]:
        """Return the row's numbers."""
        return numbers(row)

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Put them to trackio's queue."""
        self._run.log(series, step=step)

    def flush(self) -> None:
        """The thread of trackio does that."""

    def alert(self, title: str, text: str, step: int) -> None:
        """Send a trackio alert."""
        self._run.alert(title, text, step=step)

    def close(self, status: str) -> None:
        """Wait for trackio's thread."""
        self._run.finish()
