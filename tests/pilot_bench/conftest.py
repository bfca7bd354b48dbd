"""The benchmark is a program of `benchmarks/`."""

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def short(monkeypatch):
    """One workload of 24 steps, which is all that the harness knows."""
    from pilot import harness
    from pilot.workloads import every

    workload = dataclasses.replace(every()["overfit_few"], steps=24)
    monkeypatch.setattr(harness, "every", lambda: {"short": workload})
    return workload
