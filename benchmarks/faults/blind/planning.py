"""Schedules called at the wrong time, and runs that go on without all of their state (A23, A24)."""

import copy
from typing import Any

import torch
from torch.optim import lr_scheduler

from faults.blind.worlds import made, repeated, world
from faults.case import Measure, Run, plant


def _planned(run: Run, model: Any, optimizer: Any, scheduler: Any, per_batch: bool, epochs: int) -> Measure:
    here = world(run)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for _ in range(epochs):
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
            if per_batch:
                scheduler.step()
        if not per_batch:
            scheduler.step()
    return lambda: here.measure(model)


@plant("A23", "inverse AdamW 3")
def epochs_of_a_polynomial(run: Run) -> Measure:
    """A decay over as many steps as there are epochs is stepped after every batch."""
    model = world(run).model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.PolynomialLR(optimizer, total_iters=6, power=1.0)
    return _planned(run, model, optimizer, scheduler, run.faulty, 6)


@plant("A23", "cloze SGD 3")
def exponential_in_the_inner_loop(run: Run) -> Measure:
    """A factor meant for each epoch is applied at each batch."""
    model = world(run).model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.8)
    return _planned(run, model, optimizer, scheduler, run.faulty, 6)


@plant("A23", "cloze AdamW 2", decidable=25)
def warmup_of_batches_by_epoch(run: Run) -> Measure:
    """One cycle over all batches is stepped once an epoch, so that the rate stays where it starts."""
    here = world(run)
    model, epochs = here.model(), 6
    optimizer = made(run, model)
    total = epochs * len(here.data())
    scheduler = lr_scheduler.OneCycleLR(optimizer, here.rates[run.case.optimizer], total_steps=total)
    return _planned(run, model, optimizer, scheduler, not run.faulty, epochs)


def _saved(run: Run, model: Any, optimizer: Any, scheduler: Any, steps: int) -> dict[str, Any]:
    """Train as yesterday, with nobody watching, and return what was saved."""
    here = world(run)
    for batch in repeated(here.data(), steps):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}


@plant("A24", "bars SGD 2")
def schedule_begins_again(run: Run) -> Measure:
    """A run is taken up near its end; the schedule, which is not, begins again at its height."""
    here = world(run)
    peak = 4.0 * here.rates[run.case.optimizer]

    def parts() -> tuple[Any, Any, Any]:
        model = here.model()
        optimizer = run.optimizer(model.parameters(), lr=peak, weight_decay=1e-3)
        return model, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 150)

    saved = _saved(run, *parts(), 120)
    model, optimizer, scheduler = parts()
    model.load_state_dict(saved["model"])
    if not run.faulty:
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), 30)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("A24", "bars Adam 3", onset=50)
def parameters_without_buffers(run: Run) -> Measure:
    """After fifty batches a fresh model takes the saved parameters; running statistics were not saved."""
    here = world(run)
    model = here.model(momentum=0.01)
    fresh = copy.deepcopy(model.state_dict())
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 80))):
        if step == 50:
            kept = dict(model.named_parameters())
            saved = {name: value for name, value in model.state_dict().items() if name in kept or not run.faulty}
            model.load_state_dict({**fresh, **saved})
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A24", "weather Adam 1")
def state_of_another_shape_left_out(run: Run) -> Measure:
    """The optimizer's state is restored by a hand that takes moments and forgets how many steps there were."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, betas=(0.9, 0.999))
    saved = _saved(run, model, optimizer, lr_scheduler.ConstantLR(optimizer, 1.0), 40)
    if run.faulty:
        for state in saved["optimizer"]["state"].values():
            state["step"] = torch.tensor(0.0)
    optimizer.load_state_dict(saved["optimizer"])
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 60)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)
