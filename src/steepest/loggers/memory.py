"""What is remembered of a logger between two processes of one run."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from steepest.loggers.logger import Last


class Memory:
    """The file `<out>/loggers/<name>.json`: the run's key at the logger, and the last step of each series there.

    It may be behind by what was delivered since it was last written. Without a folder nothing is remembered.
    """

    def __init__(self, out: Path | None, name: str, config: dict[str, Any]) -> None:
        self._path = None if out is None else out / "loggers" / f"{name}.json"
        text = json.dumps(config, sort_keys=True, default=str)
        self._run = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.key: str | None = None
        self.last: Last = {}

    def recall(self, step: int) -> None:
        """Read what the process before this one left, if this one goes on with its run.

        It does when it begins after step 0, and when it begins at 0 with the same settings because the one before was
        killed before its first checkpoint. It does not when that one could still say how it ended.
        """
        found = self._read()
        killed = found.get("status") is None and found.get("run") == self._run
        if step > 0 or killed:
            self.key, self.last = found.get("key"), dict(found.get("last", {}))

    def record(self, status: str | None = None) -> None:
        """Write what is known now, in one piece: a reader finds the old file or the new one."""
        if self._path is None:
            return
        text = json.dumps({"run": self._run, "key": self.key, "last": self.last, "status": status})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(text)
        os.replace(beside, self._path)

    def _read(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            found = json.loads(self._path.read_text())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
