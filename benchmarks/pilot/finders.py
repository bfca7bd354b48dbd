"""Rates found by a ramp before training, as fastai and Lightning do it. What the ramp takes is taken from the steps."""

import copy
import math

import torch
from torch import nn

from pilot.by_hand import adamw, constant, cosine, loop
from pilot.job import Job

RAMP = 100
TYPED = 1e-3
"""What is typed where the ramp ends before anything can be read off it."""

SMOOTH, STOP = 0.98, 4.0
"""Of both: how slow the running mean of the losses is, and how far over its lowest value the ramp ends."""


def lr_finder(job: Job) -> nn.Module:
    """Train as fastai has it: a ramp from 1e-7 to 10, its longest valley, then one cycle up to that rate and down."""
    steps = _length(job)
    rates = [1e-7 * 1e8 ** (step / steps) for step in range(steps)]
    losses = ramp(job, rates, counted=0)
    rates, losses = rates[: len(losses)][steps // 10 : -5], losses[steps // 10 : -5]
    whole = next((place for place, loss in enumerate(losses) if math.isnan(loss)), len(losses))
    rate = rates[valley(losses[:whole])] if whole else TYPED
    job.told["rate"] = rate
    return loop(job, adamw(job.model, rate), one_cycle, job.steps - job.told["spent"])


def lightning_finder(job: Job) -> nn.Module:
    """Train as Lightning has it: a ramp from 1e-8 to 1, where the loss falls most for a change of rate; then constant.

    The slope is by the rate, not by its logarithm, and the mean is corrected as if for one step more: it is so there.
    """
    steps = _length(job)
    rates = [1e-8 * 1e8 ** ((step + 1) / steps if step else 0) for step in range(steps)]
    losses = ramp(job, rates, counted=1)
    read = [pair for pair in list(zip(rates, losses, strict=False))[10:-1] if math.isfinite(pair[1])]
    rate = steepest(*map(list, zip(*read, strict=True))) if len(read) > 1 else TYPED
    job.told["rate"] = rate
    return loop(job, adamw(job.model, rate), constant, job.steps - job.told["spent"])


def _length(job: Job) -> int:
    return min(RAMP, job.steps // 2)


def ramp(job: Job, rates: list[float], counted: int) -> list[float]:
    """Take a step of AdamW at each rate, until the mean loss is far above its lowest; return the running means.

    The weights are afterwards as they were. counted: steps that the correction of the mean counts beside those made.
    """
    before = copy.deepcopy(job.model.state_dict())
    (optimizer,) = adamw(job.model, rates[0])
    losses: list[float] = []
    mean = 0.0
    job.model.train()
    for rate, batch in zip(rates, job.batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        loss = job.loss(job.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = SMOOTH * mean + (1 - SMOOTH) * loss.item()
        losses.append(mean / (1 - SMOOTH ** (len(losses) + 1 + counted)))
        if losses[-1] > STOP * min(losses):
            break
    job.model.load_state_dict(before)
    job.told["spent"] = len(losses)
    return losses


def valley(losses: list[float]) -> int:
    """Return where fastai finds a rate: half-way along the middle third of the longest series of falling losses.

    A series may leave losses out; its third is that of its length, from its end backwards.
    """
    lengths: list[int] = []
    for place, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(place) if losses[j] > loss), default=0))
    longest = max(lengths)
    third = longest / 3
    return max(0, lengths.index(longest) - longest + int(third) + int(third / 2))


def steepest(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls most for a change of rate."""
    (slopes,) = torch.gradient(torch.tensor(losses), spacing=[torch.tensor(rates)])
    return rates[int(slopes.argmin())]


def one_cycle(step: int, steps: int) -> float:
    """Return the factor of fastai's cycle: from 1/25 up within a quarter of the steps, then down to 1e-5."""
    done, up = step / steps, 0.25
    if done < up:
        return 1 - (1 - 1 / 25) * cosine(done / up)
    return 1e-5 + (1 - 1e-5) * cosine((done - up) / (1 - up))
