"""A doctor in a run of `steepest.fit`: it sees the batches, says what it finds, and keeps it as incidents."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steepest.data import Source, to_device
from steepest.doctor.doctor import watch
from steepest.loop import Loss
from steepest.record import Finding


class Attended:
    """A source whose batches a doctor sees. `hear` wants the rows of the journal; `told` takes each new finding."""

    def __init__(self, source: Source, model: nn.Module, optimizer: Optimizer, loss: Loss) -> None:
        self._source = source
        self.batches, self.samples, self.say = source.batches, source.samples, source.say
        self.told: Callable[[Finding], None] = lambda finding: None
        self._said: set[str] = set()

        def on_device(model: nn.Module, batch: Any) -> Any:
            device = next((each.device for each in model.parameters()), None)
            return loss(model, batch if device is None else to_device(batch, device))

        self.doctor = watch(model, optimizer, on_device)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        self._source.say = self.say
        yield from self.doctor(self._source.epoch(number, start))

    def hear(self, row: dict[str, Any]) -> None:
        """Tell what was found since the last row."""
        for finding in self.doctor.findings:
            if finding.cause not in self._said:
                self._said.add(finding.cause)
                self.told(finding)

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


def keep(finding: Finding, folder: Path) -> Path:
    """Write a finding to `incidents/` in a run's folder, whole or not at all; return the file."""
    incidents = folder / "incidents"
    incidents.mkdir(exist_ok=True)
    path = incidents / f"step-{finding.step:09d}-{finding.cause}.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(asdict(finding), indent=1, default=str) + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
