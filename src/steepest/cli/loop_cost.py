"""What the loop costs: the same training by hand, by `Run`, and with all that `fit` does at every step, in turns."""

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from torch import Tensor, nn

from steepest.checkpoint import Checkpoints
from steepest.loop import Run, Step
from steepest.loop.event_file import EventFile
from steepest.loop.journal import Journal
from steepest.loop.saving import Saving
from steepest.loop.sitting import Sitting
from steepest.report.terminal import screen

STEPS, TURN = 10_000, 100
Batch = tuple[Tensor, Tensor]


def report() -> None:
    """Print microseconds a step for each loop and the difference to the one by hand."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = measure()
    finally:
        torch.set_num_threads(threads)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Linear(8, 1), batch 8, SGD, one thread; medians of {STEPS // TURN} turns of {TURN} steps each")
    for name, microseconds in times.items():
        console.print(f"{name:50} {microseconds:7.1f} us/step  {microseconds - times['by hand']:+6.1f}")


def measure() -> dict[str, float]:
    """Return the microseconds a step that each loop takes, the median over all turns."""
    batches = [(torch.randn(8, 8), torch.randn(8, 1)) for _ in range(100)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        loops = {
            "by hand": by_hand(batches),
            "Run": iter(run(batches)),
            "Run, every loss read": reading(run(batches)),
            "Run with events, progress, checkpoint timer, as fit": with_company(run(batches), Path(folder), stack),
        }
        times: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(STEPS // TURN):
            for name, loop in loops.items():
                began = perf_counter()
                deque(islice(loop, TURN), maxlen=0)
                times[name].append(perf_counter() - began)
    return {name: sorted(taken)[len(taken) // 2] / TURN * 1e6 for name, taken in times.items()}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Squared error."""
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def by_hand(batches: list[Batch]) -> Iterator[None]:
    """Train as one writes it without a library."""
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(model, batches[step % len(batches)]).backward()
        optimizer.step()
        yield


def run(batches: list[Batch]) -> Run:
    """Return the same training as a `Run`."""
    model = nn.Linear(8, 1)
    return Run(model, loss, batches, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3), steps=STEPS)


def reading(steps: Run) -> Iterator[Step]:
    """Read the loss of every step."""
    for step in steps:
        _ = step.loss
        yield step


def with_company(steps: Run, folder: Path, stack: ExitStack) -> Iterator[Step]:
    """Do what `fit` does at every step: a row for each thousandth of the run, a live bar, a timer for checkpoints."""
    view = stack.enter_context(screen(steps, True, Console(file=StringIO(), force_terminal=True)))
    file = stack.enter_context(EventFile(folder))
    checkpoints = Checkpoints(folder / "checkpoints", run="")
    stack.callback(checkpoints.close)
    saving = Saving(steps, checkpoints, None, dict)
    sitting = Sitting(steps, Journal(steps, {}, file), view, None, saving)
    for step in steps:
        sitting.after(step, lambda: None)
        yield step
