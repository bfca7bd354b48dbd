"""What is written about a run beside its numbers: its settings, in events and checkpoints."""

import platform
from dataclasses import dataclass
from typing import Any

import torch

from steepest import __version__
from steepest.loop import settings
from steepest.loop.run import Run
from steepest.record import Plan


@dataclass(frozen=True)
class About:
    """What is written about a run. given: settings of `fit`; hyper: of the optimizer, as it was made."""

    plan: Plan | None
    given: dict[str, Any]
    hyper: list[dict[str, Any]]

    def settings(self, run: Run) -> dict[str, Any]:
        """Return all that decides on the updates, as plain data."""
        return {
            **self.given, "open": run.budget.open, "data": run.source.signature(),
            "optimizer": type(run.optimizer).__name__, "device": run.device.type, "threads": torch.get_num_threads(),
            "schedule": None if run.schedule is None else repr(run.schedule),
            "torch": str(torch.__version__), "steepest": __version__,
        }  # fmt: skip

    def facts(self, run: Run) -> dict[str, Any]:
        """Return what a checkpoint tells besides its tensors."""
        plan = None if self.plan is None else self.plan.to_dict()
        model = settings.shapes(run.model)
        return {"settings": self.settings(run), "hyper": self.hyper, "model": model, "plan": plan}

    def start(self, run: Run, name: str) -> dict[str, Any]:
        """Return the first event of a run, or of what it is taken up with; name: the run's id."""
        model = {"model": type(run.model).__name__, "parameters": sum(each.numel() for each in run.model.parameters())}
        versions = {"steepest": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
        config = {**self.settings(run), **model, "steps": run.steps, "device": str(run.device)}
        return {"run": name, "config": config, "versions": versions, "plan": self.plan and self.plan.to_dict()}
