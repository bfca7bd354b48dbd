"""How well a model does on data that it is not trained on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from steepest.data import Source, count_samples, describe, to_device
from steepest.loop.checks import split_outputs
from steepest.loop.task import Loss
from steepest.snapshot import same_random_state_after


def evaluate(
    model: nn.Module,
    loss: Loss,
    source: Source,
    metrics: dict[str, Callable[[Any, Any], Any]],
    device: torch.device,
    interrupted: Callable[[], bool],
) -> dict[str, float] | None:
    """Return the loss and every metric over one pass of the source, each the mean over samples.

    A metric is called as metric(model, batch), like the loss; what the loss returns beside "loss" is averaged too. The
    model is in evaluation mode meanwhile, without gradients; the modes of its modules and the random numbers to come
    are left as they were. None: interrupted before the end.
    """
    totals: dict[str, float] = {}
    samples = 0
    with torch.no_grad(), evaluation_mode(model), same_random_state_after():
        for batch in source.epoch(0):
            if interrupted():
                return None
            batch = batch if device.type == "cpu" else to_device(batch, device)
            count = count_samples(batch)
            for name, value in _measure(model, loss, metrics, batch).items():
                totals[name] = totals.get(name, 0.0) + value * count
            samples += count
    if samples == 0:
        raise ValueError("val gave no batches. An iterator can be read only once: pass a list or a DataLoader.")
    return {name: total / samples for name, total in totals.items()}


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


def _measure(
    model: nn.Module, loss: Loss, metrics: dict[str, Callable[[Any, Any], Any]], batch: Any
) -> dict[str, float]:
    name = "loss"
    try:
        value, others = split_outputs(loss(model, batch))
        values = {"loss": float(value), **{name: float(other) for name, other in others.items()}}
        for name, metric in metrics.items():
            values[name] = float(metric(model, batch))
    except Exception as error:
        error.add_note(f"This was the evaluation of {name!r} on val, with the batch {describe(batch)}.")
        raise
    return values
