"""Optimizers that ask for no rate, set as their authors recommend."""

from itertools import islice

import prodigyopt
import schedulefree
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pilot.by_hand import WARM_UP, constant, cosine, loop, trained
from pilot.job import Job
from pilot.workloads.workload import Batch

LOOKED_AT = 20
"""Batches over which batch norms are measured anew."""


def adamw_default(job: Job) -> nn.Module:
    """Train by what is typed without a thought: torch's AdamW with its defaults, a constant 1e-3."""
    return loop(job, [torch.optim.AdamW(trained(job.model), fused=True)], constant, job.steps)


def prodigy(job: Job) -> nn.Module:
    """Train by Prodigy (Mishchenko and Defazio 2023, arXiv:2306.06101): rate 1, cosine annealing, as in its README."""
    optimizer = prodigyopt.Prodigy(trained(job.model), lr=1.0)
    try:
        return loop(job, [optimizer], lambda step, steps: cosine(step / steps), job.steps)
    finally:
        job.told["rate"] = float(optimizer.param_groups[0]["d"])


def schedule_free(job: Job) -> nn.Module:
    """Train by Schedule-Free AdamW (Defazio et al. 2024, arXiv:2405.15682): rate 0.0025, warm-up, no schedule.

    Training is at one point and evaluation at another; the model goes from one to the other with its mode, so that it
    is judged at the second. Batch norms are measured there before the end, as its README asks, out of the steps.
    """
    norms = [module for module in job.model.modules() if isinstance(module, _BatchNorm)]
    reserved = round(LOOKED_AT / 3) if norms else 0
    optimizer = schedulefree.AdamWScheduleFree(
        trained(job.model), lr=0.0025, warmup_steps=max(1, round(WARM_UP * job.steps))
    )
    optimizer.train()
    moved = job.model.register_forward_pre_hook(
        lambda module, inputs: optimizer.train() if module.training else optimizer.eval()
    )
    try:
        loop(job, [optimizer], constant, job.steps - reserved)
    finally:
        moved.remove()
        optimizer.eval()
    if norms:
        measure_norms(job, norms, list(islice(job.batches, LOOKED_AT)))
    return job.model


def measure_norms(job: Job, norms: list[_BatchNorm], batches: list[Batch]) -> None:
    """Put the mean of these batches, at the weights as they are, into the running statistics."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    job.model.train()
    with torch.no_grad():
        for batch in batches:
            job.loss(job.model, batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
