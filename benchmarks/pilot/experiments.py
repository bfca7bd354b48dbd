"""What is measured besides losses against sweeps, and where results lie.

An experiment is a file here with `orders()`, the runs that it needs, and `tables(rows)`. Where it has POINTS its curves
have so many, and where it has JOBS no other number of runs is made at a time. Its runs are in results/<name>.jsonl.
"""

import importlib
from pathlib import Path
from typing import Any

from pilot.run import RESULTS

EXPERIMENTS = {
    "stress": "how often runs of steepest diverge where something is wrong",
    "horizon": "a quarter of the steps, four times, sixteen times, against AdamW",
    "wall": "seconds until the loss of the AdamW sweep's best",
    "regret": "half the pilot's rate and twice, against its own",
}
"""Name -> the question."""


def experiment(name: str) -> Any:
    """Return the module."""
    return importlib.import_module(f"pilot.{name}")


def file_of(name: str) -> Path:
    """Return where the results of an experiment lie."""
    return RESULTS / f"{name}.jsonl"


def compared_files() -> list[Path]:
    """Return the files of sweeps and contenders."""
    return [path for path in sorted(RESULTS.glob("*.jsonl")) if path.stem not in EXPERIMENTS]
