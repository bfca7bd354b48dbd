"""How well a model does on data that it is not trained on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest.data import Source, count_samples, describe, to_device
from steepest.loop.checks import split_outputs
from steepest.loop.run import Run
from steepest.snapshot import same_random_state_after

Metrics = dict[str, Callable[[Any, Any], Any]]


def evaluate(run: Run, source: Source, metrics: Metrics, interrupted: Callable[[], bool]) -> dict[str, float] | None:
    """Return the loss and every metric over one pass of the source, each the mean over samples.

    A metric is called as metric(model, batch), like the loss; what the loss returns beside "loss" is averaged too. The
    model is in evaluation mode meanwhile, without gradients, with the mean of its weights where the optimizer keeps
    one; modes, weights and the random numbers to come are left as they were. None: interrupted before the end.
    """
    totals: dict[str, float] = {}
    samples = 0
    with torch.no_grad(), averaged(run.optimizer), evaluation_mode(run.model), same_random_state_after():
        for batch in source.epoch(0):
            if interrupted():
                return None
            batch = batch if run.device.type == "cpu" else to_device(batch, run.device)
            count = count_samples(batch)
            for name, value in _measure(run, metrics, batch).items():
                totals[name] = totals.get(name, 0.0) + value * count
            samples += count
    if samples == 0:
        raise ValueError("val gave no batches. An iterator can be read only once: pass a list or a DataLoader.")
    return {name: total / samples for name, total in totals.items()}


def averaged(optimizer: Optimizer) -> AbstractContextManager[None]:
    """Put the weights to evaluate at in place, for optimizers of ours that keep a mean of them."""
    return optimizer.averaged() if hasattr(optimizer, "averaged") else nullcontext()  # type: ignore[attr-defined]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and each of its modules back into the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _measure(run: Run, metrics: Metrics, batch: Any) -> dict[str, float]:
    name = "loss"
    try:
        value, others = split_outputs(run.loss(run.model, batch))
        values = {"loss": float(value), **{name: float(other) for name, other in others.items()}}
        for name, metric in metrics.items():
            values[name] = float(metric(run.model, batch))
    except Exception as error:
        error.add_note(f"This was the evaluation of {name!r} on val, with the batch {describe(batch)}.")
        raise
    return values
