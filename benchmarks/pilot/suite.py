"""Workloads of another suite: `--suite PATH` takes those of PATH/workloads/public_*.py in, as the part "suite".

A file of that suite has name, family, batch_size, T; build_model(seed); data(), which returns something with
batches(batch_size, seed) and the batches to validate on, of equal length; loss(model, batch), and val_loss where
validation has another. Its sweeps of AdamW, Muon and SGD, in PATH/results/*.jsonl, were made by its own harness.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from pilot.run import kind_of, read
from pilot.workloads import PARTS, every
from pilot.workloads.workload import Workload

PACKAGE = "pilot_suite_workloads"


def join(folder: Path) -> None:
    """Add the workloads to all others, under their own names. Raises ValueError where there is none."""
    names = sorted(path.stem for path in (folder / "workloads").glob("public_*.py"))
    if not names:
        raise ValueError(f"{folder} is no suite: it has no workloads/public_*.py.")
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder / "workloads")]
    sys.modules[PACKAGE] = package
    found = [workload(importlib.import_module(f"{PACKAGE}.{name}")) for name in names]
    every().update({each.name: each for each in found})
    PARTS["suite"] = tuple(each.name for each in found)


def workload(module: Any) -> Workload:
    """Return the workload of a file; its data is made once, and torch's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        training, val = module.data()
    return Workload(
        module.name, module.family, _apart(module.build_model), module.loss,
        lambda seed: training.batches(module.batch_size, seed), list(val), module.batch_size, module.T,
        score=getattr(module, "val_loss", None),
    )  # fmt: skip


def _apart(make: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return make(seed)

    return build


def sweeps(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the suite's sweeps, of whole runs, in the words of this harness."""
    rows = [row for path in sorted((folder / "results").glob("*.jsonl")) for row in read(path)]
    return [
        {
            **row, "initial": row["init"], "cpu": row["cpu_s"], "error": row["error"] or "",
            "curve": [point for point in row["curve"] if point[0] > 0],
        }
        for row in rows
        if kind_of(row["contender"]) and row["T"] == every()[row["workload"]].steps
    ]  # fmt: skip
