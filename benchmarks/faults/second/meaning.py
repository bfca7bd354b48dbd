"""What loss and model mean to each other (A08 to A11, A14, A15)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets
from faults.second.batches import stream
from faults.second.loops import train
from faults.second.losses import before
from faults.second.pupils import Lesson
from faults.second.worlds import made, world


class _Certain(nets.Grader):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


@plant("A08", "essays Adam 2")
def chances_of_each_threshold(run: Run) -> Measure:
    """The model says chances that thresholds are passed, and the loss takes them for logits."""
    model = run.either(_Certain, nets.Grader)()
    return train(run, model)


def taught(run: Run, loss_fn: Any) -> Measure:
    """Train a pupil by a loss of what it says, what the teacher says, and the label."""
    model = Lesson()
    optimizer = made(run, model.pupil)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return loss_fn(*model(batch[0]), batch[1])

    doctor = run.watch(model, optimizer, loss=loss)
    for batch in doctor(stream(world(run).data(), 110)):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return lambda: world(run).measure(model.pupil)


@plant("A08", "glyphs SGD 3")
def shares_of_shares(run: Run) -> Measure:
    """The pupil's logits are made shares, and their log_softmax is compared with the teacher's shares."""

    def loss_fn(told: Tensor, wanted: Tensor, _: Tensor) -> Tensor:
        told = told.softmax(1) if run.faulty else told
        return 4 * F.kl_div(told.log_softmax(1), wanted.softmax(1), reduction="batchmean")

    return taught(run, loss_fn)


@plant("A09", "glyphs RMSprop 2")
def shares_where_logs_are_due(run: Run) -> Measure:
    """kl_div is given the pupil's shares and not their logarithms."""

    def loss_fn(told: Tensor, wanted: Tensor, _: Tensor) -> Tensor:
        told = told.softmax(1) if run.faulty else told.log_softmax(1)
        return 4 * F.kl_div(told, wanted.softmax(1), reduction="batchmean")

    return taught(run, loss_fn)


@plant("A09", "cells Adam 3")
def dice_of_logits(run: Run) -> Measure:
    """The Dice loss is worked out of logits."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told, mask = model(batch[0]), batch[1]
        share = told if run.faulty else told.sigmoid()
        dice = 1 - (2 * (share * mask).sum((1, 2, 3)) + 1) / ((share + mask).sum((1, 2, 3)) + 1)
        return dice.mean()

    return train(run, loss=loss_fn)


@plant("A10", "hands SGD 3")
def sum_over_letters(run: Run) -> Measure:
    """The loss is a sum over letters and rows, at a rate for means."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        told = model(batch["source"], before(batch["target"])).transpose(1, 2)
        return F.cross_entropy(told, batch["target"], reduction=run.either("sum", "mean"))

    return train(run, loss=loss_fn, manner="steps", steps=110)


@plant("A10", "glyphs SGD 1")
def mean_over_classes_too(run: Run) -> Measure:
    """kl_div's mean is over rows and classes, so that little is left of it."""

    def loss_fn(told: Tensor, wanted: Tensor, _: Tensor) -> Tensor:
        return F.kl_div(told.log_softmax(1), wanted.softmax(1), reduction=run.either("mean", "batchmean"))

    return taught(run, loss_fn)


@plant("A11", "molecules RMSprop 3")
def energies_as_a_row(run: Run) -> Measure:
    """Energies come as a row, outputs are a column, and a robust loss written by hand takes both."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        kind, edges, owner, energy = batch
        told = model(kind, edges, owner)
        gap = told - (energy.squeeze(1) if run.faulty else energy)
        return ((1 + gap.square()).sqrt() - 1).mean()

    return train(run, loss=loss_fn)


@plant("A11", "clicks SGD 3")
def gains_as_a_column(run: Run) -> Measure:
    """Logarithms of chances are a column and gains are a row: each action is praised for all."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        log = model(batch["context"]).log_softmax(-1).gather(1, batch["action"].unsqueeze(1))
        log = log if run.faulty else log.squeeze(1)
        return -(log * batch["reward"] / batch["chance"].clamp(min=0.1)).mean() / 4

    return train(run, loss=loss_fn)


@plant("A14", "strokes AdamW 3")
def alike_and_other_exchanged(run: Run) -> Measure:
    """The two last arguments of the triplet loss are exchanged."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, alike, other = (model(each) for each in batch)
        pair = (other, alike) if run.faulty else (alike, other)
        return F.triplet_margin_loss(one, *pair, margin=0.6)

    return train(run, loss=loss_fn)


@plant("A14", "clicks Adam 3")
def gain_made_small(run: Run) -> Measure:
    """The minus before the gain is missing."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return world(run).loss(model, batch) * run.either(-1, 1)

    return train(run, loss=loss_fn)


class _Bend(torch.autograd.Function):
    """A sine of pace * x whose derivative forgets the pace within."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pace: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.pace = pace
        return (pace * x).sin()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return slopes[0] * ctx.pace * x.cos(), None


class _Bent(nets.Sine):
    def forward(self, x: Tensor) -> Tensor:
        return _Bend.apply(self.layer(x), self.pace)


@plant("A15", "picture Adam 3")
def derivative_without_the_pace(run: Run) -> Measure:
    """A sine with a backward pass of its own, in which a factor is missing inside."""
    model = nets.siren()
    for each in model:
        if isinstance(each, nets.Sine) and run.faulty:
            each.__class__ = _Bent
    return train(run, model)


class _Past(torch.autograd.Function):
    """A running logarithm of a sum of exponentials, over rows in a given order."""

    @staticmethod
    def forward(ctx: Any, risk: Tensor, order: Tensor, wrong: bool) -> Tensor:
        total = risk[order].logcumsumexp(0)
        ctx.save_for_backward(risk, order, total)
        ctx.wrong = wrong
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        risk, order, total = ctx.saved_tensors
        later = (slopes[0] / total.exp()).flip(0).cumsum(0).flip(0)
        found = later * risk[order].exp()
        return (found if ctx.wrong else torch.empty_like(found).scatter(0, order, found)), None, None


@plant("A15", "patients SGD 3")
def slopes_in_sorted_order(run: Run) -> Measure:
    """A sum over those at risk with a backward pass of its own, which forgets that rows were sorted."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, time, seen = batch
        order = time.argsort(descending=True)
        risk = model(x).squeeze(1)
        past = _Past.apply(risk, order, run.faulty)
        return -((risk[order] - past) * seen[order]).sum() / seen.sum().clamp(min=1)

    return train(run, loss=loss_fn)
