"""Ordinary training: every family, in the manners that people have."""

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.case import Measure, Run, healthy
from faults.families.batches import endless
from faults.loops import clipped, fit, length, scheduled

FAMILIES = (
    "autoencoder", "cancer", "contrastive", "conv", "digits", "encoder", "flow", "gpt", "graph", "pinn", "recommender",
    "recurrent", "residual", "tabular",
)  # fmt: skip


@healthy(*(f"{family} SGD" for family in FAMILIES), *(f"{family} Adam" for family in FAMILIES))
def plain(run: Run) -> Measure:
    """The six steps of gradient descent, at a rate that is good."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()))


@healthy(*(f"{family} AdamW" for family in FAMILIES))
def warmup_and_cosine(run: Run) -> Measure:
    """A tenth of the steps is warmup, then a cosine to zero."""
    model = run.task.model()
    steps = run.task.epochs * length(run.task.train())
    optimizer = run.optimizer(model.parameters(), lr=1.5 * run.rate, weight_decay=0.05)
    scheduler = lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 0.05, 1.0, steps // 10),
            lr_scheduler.CosineAnnealingLR(optimizer, steps - steps // 10),
        ],
        [steps // 10],
    )
    return scheduled(run, model, optimizer, scheduler)


@healthy("conv RMSprop", "gpt RMSprop", "recurrent RMSprop", "flow RMSprop", "encoder SGD", "autoencoder SGD")
def clipped_sometimes(run: Run) -> Measure:
    """The norm of gradients is clipped at a height that they reach now and then."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    limit = {"autoencoder": 40.0, "flow": 4.0}.get(run.case.family, 1.0)
    return clipped(run, model, optimizer, lambda: nn.utils.clip_grad_norm_(model.parameters(), limit))


@healthy("digits AdamW", "conv SGD", "recurrent Adam", "gpt AdamW", "residual RMSprop", "tabular SGD", "cancer Adam")
def validated(run: Run) -> Measure:
    """A validation in evaluation mode after each epoch, and back to training mode."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(run.task.epochs):
        model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
        run.task.measure(model)
    return lambda: run.task.measure(model)


@healthy("digits SGD", "gpt SGD", "tabular Adam", "contrastive SGD", "flow AdamW", "recommender RMSprop")
def half_the_rate(run: Run) -> Measure:
    """At half the rate: somewhat slower, and well."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 2))


@healthy("digits Adam", "conv AdamW", "autoencoder Adam", "cancer SGD", "recurrent SGD", "residual AdamW", "graph Adam")
def twice_the_rate(run: Run) -> Measure:
    """At twice the rate: somewhat noisier, and well."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=2 * run.rate))


@healthy("recommender Adagrad", "digits Adagrad", "gpt Adagrad", "tabular Adagrad")
def adagrad(run: Run) -> Measure:
    """Adagrad, whose rate falls by itself."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("encoder AdamW", "digits RMSprop", "pinn RMSprop", "autoencoder RMSprop")
def without_a_loss(run: Run) -> Measure:
    """The doctor is given no loss function."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer)
    for batch in doctor(endless(train, 120)):
        optimizer.zero_grad(set_to_none=False)
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@healthy("tabular RMSprop", "graph RMSprop", "cancer AdamW")
def stopped_when_good(run: Run) -> Measure:
    """The loop is left in the middle of an epoch, once the loss has not fallen for a while."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    best, waited = float("inf"), 0
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 180)):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        optimizer.step()
        best, waited = (loss.item(), 0) if loss.item() < best else (best, waited + 1)
        if waited > 40:
            break
    return lambda: run.task.measure(model)


@healthy("conv Adam", "digits SGD", "residual Adam")
def two_stages(run: Run) -> Measure:
    """Two loops under one doctor; the second at a third of the rate."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for rate in (run.rate, run.rate / 3):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for batch in doctor(endless(train, 60)):
            optimizer.zero_grad()
            with torch.enable_grad():
                loss_fn(model, batch).backward()
            optimizer.step()
    return lambda: run.task.measure(model)
