"""AdamW on inputs standardised by hand: what who knows the trade does with raw columns before choosing a rate.

The mean and the deviation are of the first batches, one for each column, or channel of a picture. The model does it to
what it is given, so that a loss which asks for the inputs themselves, as an autoencoder's does, still gets those.
"""

from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from pilot.job import Job
from pilot.workloads.workload import Workload

BATCHES = 8


def applies(workload: Workload) -> bool:
    """Return whether its batches are pairs of tensors, the first of real numbers.

    A network that others have trained knows its inputs as they are; nobody would change their units.
    """
    if workload.family in ("continued", "finetune"):
        return False
    batch = next(workload.batches(0))
    pair = isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(each, Tensor) for each in batch)
    return pair and batch[0].is_floating_point()


def standardised(job: Job) -> Job:
    """Return the job with the model's inputs in units of their deviation; no batch of it is lost."""
    first = list(islice(job.batches, BATCHES))
    if not all(isinstance(batch[0], Tensor) and batch[0].is_floating_point() for batch in first):
        raise ValueError("Only inputs that are one tensor of real numbers can be standardised.")
    inputs = torch.cat([batch[0] for batch in first])
    axes = (0, 2, 3) if inputs.ndim == 4 else tuple(range(inputs.ndim - 1))
    mean, deviation = inputs.mean(axes, keepdim=True), inputs.std(axes, correction=0, keepdim=True)
    deviation = torch.where(deviation > 0, deviation, 1.0)

    def scale(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (given[0] - mean) / deviation, *given[1:]

    job.model.register_forward_pre_hook(scale)
    return replace(job, batches=chain(first, job.batches))
