"""What a loop costs above the same training by hand: ours, ignite's, transformers' and Lightning's, in turns.

Each is measured from step 100 to its last step of a run, against a loop by hand over the same kind of batches, and
the least of all turns counts. Ours is `steepest bench loop`, whose turns are finer: medians of 100 turns.
"""

import importlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from reliability.table import Row, at_most
from steepest.cli import loop_cost

STEPS, WARM, TURNS = 600, 100, 3
"""Steps of a run, so many of them before the clock starts, and runs of each loop."""


def report() -> list[Row]:
    """Measure what can be imported; return the rows of the table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        return [*ours(), *theirs()]
    finally:
        torch.set_num_threads(threads)


def ours() -> list[Row]:
    """Return the rows of `steepest bench loop`."""
    times = loop_cost.measure()
    hand = times.pop("by hand")
    rows = [Row("by hand, batches in a list", f"{hand:.0f} us")]
    *partly, (name, whole) = times.items()
    rows += [Row(f"  steepest: {name}", f"{taken - hand:+.1f} us") for name, taken in partly]
    return [*rows, at_most(f"  steepest: {name}", whole - hand, 20, " us")]


def theirs() -> list[Row]:
    """Return the rows of the other trainers, each with its difference to the loop by hand."""
    loops: dict[str, Callable[[], float]] = {"by hand, DataLoader": by_hand}
    missing = []
    for module, more in LOOPS.items():
        try:
            importlib.import_module(module)
            loops |= more
        except ImportError as error:
            missing.append(Row(f"  {module}", f"not measured: {error} ({sys.executable})"))
    least = dict.fromkeys(loops, float("inf"))
    for _ in range(TURNS):
        for name, loop in loops.items():
            least[name] = min(least[name], loop())
    hand = least.pop("by hand, DataLoader")
    rows = [Row(f"  {name}", f"{taken - hand:+.0f} us") for name, taken in least.items()]
    return [Row("by hand, batches of a DataLoader", f"{hand:.0f} us"), *rows, *missing]


class Clock:
    """Counts steps, and times those after the first hundred."""

    def __init__(self) -> None:
        self._steps, self._began = 0, 0.0

    def step(self) -> None:
        """Note the end of a step."""
        self._steps += 1
        if self._steps == WARM:
            self._began = perf_counter()
        elif self._steps == STEPS:
            self.microseconds = (perf_counter() - self._began) / (STEPS - WARM) * 1e6


class Samples(Dataset):
    """Rows for so many batches of eight."""

    def __init__(self, names: bool = False) -> None:
        self.x, self.y, self.names = torch.randn(8 * STEPS, 8), torch.randn(8 * STEPS, 1), names

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> Any:
        pair = self.x[place], self.y[place]
        return dict(zip(("x", "labels"), pair, strict=True)) if self.names else pair


def by_hand() -> float:
    """Train as one writes it without a library."""
    model, clock = nn.Linear(8, 1), Clock()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for batch in DataLoader(Samples(), batch_size=8):
        optimizer.zero_grad()
        loop_cost.loss(model, batch).backward()
        optimizer.step()
        clock.step()
    return clock.microseconds


def ignite() -> float:
    """Train by an Engine."""
    from ignite.engine import Engine, Events

    model, clock = nn.Linear(8, 1), Clock()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def update(engine: Engine, batch: Any) -> float:
        optimizer.zero_grad()
        loss = loop_cost.loss(model, batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(update)
    engine.add_event_handler(Events.ITERATION_COMPLETED, clock.step)
    engine.run(DataLoader(Samples(), batch_size=8), max_epochs=1)
    return clock.microseconds


class Named(nn.Module):
    """A model that takes and gives what transformers' Trainer expects."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": nn.functional.mse_loss(self.linear(x), labels)}


def transformers(**options: Any) -> float:
    """Train by the Trainer."""
    from transformers.trainer import Trainer, TrainingArguments
    from transformers.trainer_callback import TrainerCallback

    clock = Clock()

    class Watching(TrainerCallback):
        def on_step_end(self, *given: Any, **more: Any) -> None:
            clock.step()

    model = Named()
    with tempfile.TemporaryDirectory() as folder, quiet():
        given = TrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=8, use_cpu=True, report_to="none",
            save_strategy="no", **options,
        )  # fmt: skip
        sgd = torch.optim.SGD(model.parameters(), lr=1e-3)
        still = torch.optim.lr_scheduler.ConstantLR(sgd, 1.0)
        trainer = Trainer(model, given, train_dataset=Samples(True), callbacks=[Watching()], optimizers=(sgd, still))
        trainer.train()
    return clock.microseconds


def lightning(**options: Any) -> float:
    """Train by the Trainer of Lightning."""
    import lightning as pl

    clock, barebones = Clock(), options.get("barebones", False)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = loop_cost.loss(self.linear, batch)
            if not barebones:
                self.log("loss", loss, prog_bar=True)
            return loss

        def on_train_batch_end(self, *given: Any) -> None:
            clock.step()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = pl.Trainer(max_steps=STEPS, accelerator="cpu", devices=1, default_root_dir=folder, **options)
        trainer.fit(Module(), DataLoader(Samples(), batch_size=8))
    return clock.microseconds


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing be printed."""
    logging.disable(logging.WARNING)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield
    logging.disable(logging.NOTSET)


LOOPS: dict[str, dict[str, Callable[[], float]]] = {
    "ignite": {"ignite Engine": ignite},
    "transformers": {
        "transformers Trainer": transformers,
        "transformers Trainer, without tqdm": lambda: transformers(disable_tqdm=True, logging_nan_inf_filter=False),
    },
    "lightning": {
        "Lightning Trainer, self.log(prog_bar=True)": lightning,
        "Lightning Trainer, barebones=True": lambda: lightning(barebones=True),
    },
}
