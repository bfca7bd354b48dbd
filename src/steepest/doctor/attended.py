"""A doctor in a run of `steepest.fit`: it sees the batches, says and keeps what it finds, and may repair it."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steepest.data import Source
from steepest.doctor.repair import Repair, Repairs
from steepest.doctor.repair_memory import Attendant, on_device
from steepest.doctor.repair_proof import is_sound
from steepest.loop import Loss, Run
from steepest.record import Finding

GUARDED = (
    "the pilot chose the optimizer, and a guard goes back where training blows up: the doctor repairs nothing here"
)


class Attended:
    """A source whose batches a doctor sees. `hear` wants the rows of the journal.

    told, mended: take each new finding, and each repair whenever there is something new about it. say: shows a line.
    """

    def __init__(self, source: Source, model: nn.Module, optimizer: Optimizer, loss: Loss) -> None:
        self._source = source
        self.batches, self.samples, self.say = source.batches, source.samples, source.say
        self.told: Callable[[Finding], None] = lambda finding: None
        self.mended: Callable[[Repair], None] = lambda repair: None
        self._said: dict[str, Finding] = {}
        self._past: set[str] = set()  # causes that the doctor does not know of any more
        self._repairs: Repairs | None = None
        self._asks, self._scales = False, False
        self.doctor = Attendant(model, optimizer, on_device(loss), None)

    def join(self, run: Run, repair: str) -> None:
        """Repair this run from now on, where that is asked for: "auto", or "ask"."""
        self._scales = run.precision.scales
        if repair != "off" and run.guard is not None:
            self.say(GUARDED)
        elif repair != "off":
            self._asks = repair == "ask"
            self._repairs = Repairs(self.doctor, run, self._consents, lambda repair: self.mended(repair))

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        self._source.say = self.say
        batches = self._source.epoch(number, start)
        if self._repairs is None:
            yield from self.doctor(batches)
            return
        for batch in self.doctor(map(self._repairs.mended, batches)):
            self._tell()
            yield self._repairs.look(batch)

    def hear(self, row: dict[str, Any]) -> None:
        """Tell what was found since the last row."""
        if row.get("skipped") and not self._scales:  # what scales losses skips steps to find its scale
            self.doctor.missed(row["train/loss"])
        self._tell()
        if self.doctor.has_missed:
            self._past |= {each.cause for each in self.doctor.findings}
            if self._repairs is None and is_sound(self.doctor.model):
                self.doctor.forget_missed()  # the run has left that batch out, and goes on as it was

    def _tell(self) -> None:
        """Tell what is new."""
        for finding in self.doctor.findings:
            if finding.cause not in self._said:
                self._said[finding.cause] = finding
                self.told(finding)

    @property
    def findings(self) -> list[Finding]:
        """What is found, best first, and after it what was found before repairs, and of batches that were left out."""
        now = self.doctor.findings
        past = (self._past | {each.cause for each in self.repairs}) - {each.cause for each in now}
        return [*now, *(each for each in self._said.values() if each.cause in past)]

    @property
    def repairs(self) -> list[Repair]:
        """The repairs that were made."""
        return [] if self._repairs is None else self._repairs.made

    def _consents(self, repair: Repair) -> bool:
        """Ask whether to make a repair, where that is to be asked and somebody is there."""
        if not self._asks:
            return True
        if not sys.stdin.isatty():
            self.say("a repair is proven, and nobody can be asked (there is no terminal); repair='auto' makes it")
            return False
        self.say(f"{repair}?")
        return input("Make this repair? [y/N] ").strip().lower() in ("y", "yes")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the source; what the doctor knows is of this process."""
        return self._source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self._source.load_state_dict(state)

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        return self._source.signature()

    def close(self) -> None:
        """Stop watching; the source is its owner's to close."""
        self.doctor.close()


def keep(found: Finding | Repair, folder: Path) -> Path:
    """Write a finding, or a repair, to `incidents/` in a run's folder, whole or not at all; return the file."""
    incidents = folder / "incidents"
    incidents.mkdir(exist_ok=True)
    kind = "-repair" if isinstance(found, Repair) else ""
    path = incidents / f"step-{found.step:09d}-{found.cause or 'blow-up'}{kind}.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(asdict(found), indent=1, default=str) + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
