"""One run: a contender on a workload with a seed, its steps and its seconds counted, its course watched."""

import math
import os
import platform
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn

from pilot.contenders import Job, train
from pilot.variants import varied
from pilot.workloads import every
from pilot.workloads.workload import Batch, Workload
from steepest.data import count_samples

POINTS = 12
FORWARD = 1 / 3
"""What a loss without gradients costs, in steps."""


class Clock:
    """Seconds since it was made, of the processor and of the wall, without those that are spared."""

    def __init__(self) -> None:
        self._cpu, self._wall = process_time(), perf_counter()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return process_time() - self._cpu, perf_counter() - self._wall

    @contextmanager
    def spare(self) -> Iterator[None]:
        """Count nothing of what is done inside."""
        cpu, wall = self.read()
        yield
        self._cpu, self._wall = process_time() - cpu, perf_counter() - wall


class Meter:
    """Stands between a contender and its workload.

    used: losses with gradients, and a third for each without; of half a batch, half. Validation happens at some points,
    when a contender asks for its next batch, on the weights as they are then: free, and not in the seconds. curve:
    (used, loss) at the points; seconds: when that was, on the wall.
    """

    def __init__(self, workload: Workload, model: nn.Module, seed: int, points: int = POINTS) -> None:
        self.workload, self.model, self.seed, self.points = workload, model, seed, points
        self.used = 0.0
        self.curve: list[tuple[float, float]] = []
        self.seconds: list[float] = []
        self.clock = Clock()

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the workload's loss, and charge for it."""
        part = count_samples(batch) / self.workload.batch_size
        self.used += part * (1 if torch.is_grad_enabled() else FORWARD)
        return self.workload.loss(model, batch)

    def batches(self) -> Iterator[Batch]:
        """Return the training batches; validate between them where a point is reached."""
        for batch in self.workload.batches(self.seed):
            done = len(self.curve) + 1
            if done < self.points and self.used >= self.workload.steps * done / self.points:
                with self.clock.spare():
                    loss = validate(self.workload, self.model)
                self.look(loss)
            yield batch

    def look(self, loss: float) -> None:
        """Put a point on the curve."""
        self.curve.append((round(self.used, 2), loss))
        self.seconds.append(round(self.clock.read()[1], 4))


def validate(workload: Workload, model: nn.Module) -> float:
    """Return the mean loss on the validation batches, in evaluation mode; the model and torch's random state stay."""
    modes = [(module, module.training) for module in model.modules()]
    score = workload.score or workload.loss
    try:
        model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return sum(score(model, batch).item() for batch in workload.val) / len(workload.val)
    finally:
        for module, training in modes:
            module.training = training


def run(name: str, contender: str, seed: int, points: int = POINTS) -> dict[str, Any]:
    """Make the run; return what is known of it, as one line of results holds it. An error is a result too."""
    torch.set_num_threads(1)
    base, _, change = name.partition("@")
    workload = varied(every()[base], change)
    random.seed(seed)
    torch.manual_seed(seed)
    model = workload.build(seed)
    initial, error, told = validate(workload, model), "", {}
    meter = Meter(workload, model, seed, points)
    try:
        model = train(contender, Job(model, meter.loss, meter.batches(), workload.steps, seed, told))
    except Exception as raised:
        error = (f"{type(raised).__name__}: {raised}".splitlines() or [""])[0]
    cpu, wall = meter.clock.read()
    final = math.nan if error else validate(workload, model)
    meter.look(final)
    return {
        "workload": name, "family": workload.family, "contender": contender, "seed": seed, "T": workload.steps,
        "final": number(final), "initial": number(initial), "curve": [(at, number(loss)) for at, loss in meter.curve],
        "seconds": [*meter.seconds[:-1], round(wall, 4)], "diverged": not final <= initial, "cpu": round(cpu, 3),
        "used": round(meter.used, 2), "error": error, **told, "versions": versions(),
    }  # fmt: skip


def number(value: float) -> float | None:
    """Return the number in six digits, None where it is not finite, for JSON has no word for that."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


@cache
def versions() -> dict[str, Any]:
    """Return what the numbers may depend on; a commit with a + is one with changes that are not committed."""
    from steepest import __version__

    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "steepest": __version__, "commit": commit, "torch": str(torch.__version__), "python": platform.python_version(),
        "machine": platform.machine(), "processor": processor(), "cores": os.cpu_count(),
    }  # fmt: skip


def processor() -> str:
    """Return what the processor calls itself."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def warm(suite: Path | None = None) -> None:
    """Import, take the suite in, and make the kernels once, so that no run of a worker pays for them."""
    import steepest as st

    if suite is not None:
        from pilot.suite import join

        join(suite)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    rows = (torch.randn(4, 2), torch.randn(4, 1))
    st.fit(model, lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), [rows], steps=60, log=False)
