"""How well a model does on data that it is not trained on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from steepest.data import Source, count_samples, describe, to_device
from steepest.loop.checks import split_outputs
from steepest.loop.microbatch import Mean
from steepest.loop.run import Run
from steepest.loop.signals import Interrupted
from steepest.snapshot import same_random_state_after

Metrics = dict[str, Callable[[Any, Any], Any]]


def evaluate(run: Run, source: Source, metrics: Metrics, interrupted: Interrupted) -> dict[str, float] | None:
    """Return the loss and every metric over one pass of the source, each the mean over samples.

    A metric is called as metric(model, batch), like the loss; what the loss returns beside "loss" is averaged too, and
    the two weigh by "weight" where the loss function says it. The model is in evaluation mode meanwhile, without
    gradients, with the mean of its weights where one is kept; modes, weights and the random numbers to come
    are left as they were. None: interrupted before the end.
    """
    losses, others = Mean(), Mean()
    with torch.no_grad(), run.average.in_place(), evaluation_mode(run.model), same_random_state_after():
        for batch in source.epoch(0):
            if interrupted():
                return None
            batch = batch if run.device.type == "cpu" else to_device(batch, run.device)
            _measure(run, metrics, batch, (losses, others))
    if not losses.weight:
        raise ValueError("val gave no batches. An iterator can be read only once: pass a list or a DataLoader.")
    return {name: float(value) for mean in (losses, others) for name, value in mean.items()}


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


def _measure(run: Run, metrics: Metrics, batch: Any, means: tuple[Mean, Mean]) -> None:
    name, samples = "loss", count_samples(batch)
    try:
        with run.precision.forward():
            value, others, weight = split_outputs(run.gradient.loss(run.model, batch), samples)
            means[0].add(
                {"loss": float(value), **{name: float(other) for name, other in others.items()}}, float(weight)
            )
            values = {}
            for name, metric in metrics.items():
                values[name] = float(metric(run.model, batch))
        means[1].add(values, samples)
    except Exception as error:
        error.add_note(f"This was the evaluation of {name!r} on val, with the batch {describe(batch)}.")
        raise
