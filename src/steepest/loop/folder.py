"""The folder of a run, with what is found in it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steepest import events
from steepest.checkpoint import Checkpoint, Checkpoints
from steepest.loop.event_file import check_folder
from steepest.record import Plan


@dataclass
class Folder:
    """The folder of a run, with what was found in it."""

    path: Path
    checkpoints: Checkpoints
    found: Checkpoint | None

    @classmethod
    def open(cls, path: Path, keep: int, resume: str, stack: ExitStack, say: Callable[[str], None]) -> "Folder":
        """Look for a run to go on with. Raises ValueError when there is one and it may not be touched."""
        if path == Path():
            raise ValueError("out= is the working folder; name a folder of its own for the run, such as out='run'.")
        used = [name for name in (events.FILE, "checkpoints") if (path / name).exists()]
        if resume == "never" and used:
            raise ValueError(
                f"out={str(path)!r} holds a run already ({used[0]}); choose another folder, or resume='auto'."
            )
        check_folder(path)
        first = next(events.read(path / events.FILE), {})
        checkpoints = Checkpoints(path / "checkpoints", run=first.get("run", ""), keep=keep)
        stack.callback(checkpoints.close)
        return cls(path, checkpoints, checkpoints.newest(say))

    def is_open(self) -> bool:
        """Whether the run that was found began without a budget."""
        return self.found is not None and self.found.facts["settings"].get("open", False)

    def plan(self) -> Plan | None:
        """Return the plan of the run that was found."""
        plan = None if self.found is None else self.found.facts["plan"]
        return None if plan is None else Plan.from_dict(plan)

    def plan_keeper(self, plan: Plan, say: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
        """Return what writes the plan beside the events, when a row of the first step comes: before, there is no run.

        A run does not fail because the plan cannot be written.
        """

        def keep(row: dict[str, Any]) -> None:
            if row["step"] == 0:
                try:
                    plan.save(self.path / "plan.json")
                except OSError as error:
                    say(f"plan.json was not written: {error}")

        return keep

    def best(self) -> Path | None:
        """Return where the checkpoint with the lowest loss on val is."""
        best = self.checkpoints.best()
        return None if best is None else best.path
