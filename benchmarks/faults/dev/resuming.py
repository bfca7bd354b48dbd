"""Schedules that are stepped at the wrong time, and runs that go on without their whole state (A23, A24)."""

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.families import autoencoder, conv, gpt
from faults.families.batches import endless
from faults.families.scores import cross_entropy


@plant("A23", "digits SGD 3", "encoder Adam 3", "tabular AdamW 3", also="D05", decidable=10)
def per_batch(run: Run) -> Measure:
    """A schedule that is to divide the rate every epoch or two does so every batch or two."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    doctor = run.watch(model, optimizer, loss=loss_fn, scheduler=scheduler)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
            if run.faulty:
                scheduler.step()
        if not run.faulty:
            scheduler.step()
    return lambda: run.task.measure(model)


@plant("A23", "conv AdamW 3", "recurrent RMSprop 3", also="D05", decidable=20)
def exponential_per_batch(run: Run) -> Measure:
    """A rate that is to fall by a sixth in each epoch falls so in each batch; the doctor is not given the schedule."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.84)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
            if run.faulty:
                scheduler.step()
        if not run.faulty:
            scheduler.step()
    return lambda: run.task.measure(model)


@plant("A23", "gpt Adam 3", "digits SGD 3", also="D06", decidable=31)
def per_epoch(run: Run) -> Measure:
    """A warmup over 60 batches is stepped once an epoch, and never ends."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 60))
    doctor = run.watch(model, optimizer, loss=loss_fn, scheduler=scheduler)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
            if not run.faulty:
                scheduler.step()
        if run.faulty:
            scheduler.step()
    return lambda: run.task.measure(model)


def part(model: nn.Module, optimizer: Any, scheduler: Any, doctor: Any, loss: Any, batches: Any) -> None:
    """Train for some batches."""
    for batch in doctor(batches):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        scheduler.step()


@plant("A24", "gpt Adam 3", "tabular RMSprop 2")
def weights_only(run: Run) -> Measure:
    """A run is taken up again with its weights, but with a new optimizer and the schedule at its start."""
    loss_fn, train = run.task.loss, run.task.train()
    rate = 4 * run.rate

    def made(model: nn.Module) -> tuple[Any, Any]:
        optimizer = run.optimizer(model.parameters(), lr=rate)
        return optimizer, lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 3) * (1 - step / 140))

    model = run.task.model()
    optimizer, scheduler = made(model)
    part(model, optimizer, scheduler, iter, loss_fn, endless(train, 115))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))

    model = run.task.model()
    optimizer, scheduler = made(model)
    model.load_state_dict(saved[0])
    if not run.faulty:
        optimizer.load_state_dict(saved[1])
        scheduler.load_state_dict(saved[2])
    doctor = run.watch(model, optimizer, loss=loss_fn, scheduler=scheduler)
    part(model, optimizer, scheduler, doctor, loss_fn, endless(train, 25))
    return lambda: run.task.measure(model)


@plant("A24", "conv Adam 3", also="C08")
def buffers_forgotten(run: Run) -> Measure:
    """Only parameters are loaded, so that batch norm has its first statistics; the end comes soon after."""
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    constant = lr_scheduler.ConstantLR(optimizer, 1.0)
    part(model, optimizer, constant, iter, cross_entropy, endless(run.task.train(), 90))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    model = conv.Net()
    optimizer = run.optimizer(model.parameters(), lr=1e-4)
    names = dict(model.named_parameters()) if run.faulty else saved[0]
    model.load_state_dict({name: saved[0][name] for name in names}, strict=not run.faulty)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1e-3
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    constant = lr_scheduler.ConstantLR(optimizer, 1.0)
    part(model, optimizer, constant, doctor, cross_entropy, endless(run.task.train(), 60))
    return lambda: conv.error(model)


@plant("A24", "gpt SGD 3", onset=90, decidable=90)
def taken_back_in_mid_run(run: Run) -> Measure:
    """After a break in mid-run the weights come from a file that was written at the very start."""
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 150)
    first = copy.deepcopy(model.state_dict())
    doctor = run.watch(model, optimizer, loss=gpt.next_letter, scheduler=scheduler)
    for step, batch in enumerate(doctor(endless(run.task.train(), 150))):
        if step == 90:
            model.load_state_dict(first if run.faulty else copy.deepcopy(model.state_dict()))
        optimizer.zero_grad()
        gpt.next_letter(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: gpt.honest_loss(model)


@plant("A24", "autoencoder Adam 2", also="D13")
def moments_of_another(run: Run) -> Measure:
    """The second moments are lost and the step count is not: the first steps after the break are enormous."""
    model = autoencoder.Vae()
    optimizer = run.optimizer(model.parameters())
    constant = lr_scheduler.ConstantLR(optimizer, 1.0)
    part(model, optimizer, constant, iter, autoencoder.bound, endless(run.task.train(), 100))
    for state in optimizer.state.values():
        if run.faulty:
            state["exp_avg_sq"].zero_()
            state["step"] = torch.tensor(1e5)
    doctor = run.watch(model, optimizer, loss=autoencoder.bound)
    part(model, optimizer, constant, doctor, autoencoder.bound, endless(run.task.train(), 60))
    return lambda: autoencoder.error(model)
