"""One run: a contender on a workload with a seed, its steps and its processor time counted, its course watched."""

import math
import platform
import random
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from pilot.contenders import Job, train
from pilot.workloads import every
from pilot.workloads.workload import Batch, Workload

POINTS = 12
FORWARD = 1 / 3
"""What a loss without gradients costs, in steps."""


class Meter:
    """Stands between a contender and its workload.

    used: losses with gradients, and a third for each without. Validation happens at 12 points, when a contender asks
    for its next batch, on the weights as they are then: free, and not in `spared` seconds of processor time.
    """

    def __init__(self, workload: Workload, model: nn.Module, seed: int) -> None:
        self.workload, self.model, self.seed = workload, model, seed
        self.used, self.spared = 0.0, 0.0
        self.curve: list[tuple[float, float]] = []
        self.evaluating = False

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the workload's loss, and charge for it."""
        self.used += 1 if torch.is_grad_enabled() else FORWARD
        return self.workload.loss(model, batch)

    def batches(self) -> Iterator[Batch]:
        """Return the training batches; validate between them where a point is reached."""
        for batch in self.workload.batches(self.seed):
            if len(self.curve) < POINTS - 1 and self.used >= self.workload.steps * (len(self.curve) + 1) / POINTS:
                self.look()
            yield batch

    def look(self) -> None:
        """Put a point on the curve."""
        began = process_time()
        self.curve.append((round(self.used, 2), validate(self.workload, self.model)))
        self.spared += process_time() - began


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


def run(name: str, contender: str, seed: int) -> dict[str, Any]:
    """Make the run; return what is known of it, as one line of results holds it. An error is a result too."""
    torch.set_num_threads(1)
    workload = every()[name]
    random.seed(seed)
    torch.manual_seed(seed)
    model = workload.build(seed)
    meter = Meter(workload, model, seed)
    initial, error = validate(workload, model), ""
    began = process_time()
    try:
        model = train(contender, Job(model, meter.loss, meter.batches(), workload.steps, seed))
    except (RuntimeError, ValueError, ArithmeticError) as raised:
        error = f"{type(raised).__name__}: {raised}".splitlines()[0]
    seconds = process_time() - began - meter.spared
    final = math.nan if error else validate(workload, model)
    meter.curve.append((round(meter.used, 2), final))
    return {
        "workload": name, "family": workload.family, "contender": contender, "seed": seed, "T": workload.steps,
        "final": number(final), "initial": number(initial), "curve": [(at, number(loss)) for at, loss in meter.curve],
        "diverged": not final <= initial, "cpu": round(seconds, 3), "used": round(meter.used, 2), "error": error,
        "versions": versions(),
    }  # fmt: skip


def number(value: float) -> float | None:
    """Return the number in six digits, None where it is not finite, for JSON has no word for that."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


@cache
def versions() -> dict[str, str]:
    """Return what the numbers may depend on; a commit with a + is one with changes that are not committed."""
    from steepest import __version__

    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "steepest": __version__, "commit": commit, "torch": str(torch.__version__), "python": platform.python_version(),
        "machine": platform.machine(),
    }  # fmt: skip


def warm() -> None:
    """Import, and make the kernels once, so that no run of a worker pays for them."""
    import steepest as st

    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    rows = (torch.randn(4, 2), torch.randn(4, 1))
    st.fit(model, lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), [rows], steps=60, log=False)
