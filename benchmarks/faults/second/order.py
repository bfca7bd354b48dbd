"""What is called in a step, and when (A01 to A03, A12, A13, A21, A22)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.second import sources
from faults.second.batches import stream, tuples
from faults.second.loops import train
from faults.second.losses import claimed
from faults.second.pupils import Lesson, lesson
from faults.second.worlds import made, world


@plant("A01", "glyphs SGD 3")
def teacher_is_cleared(run: Run) -> Measure:
    """A pupil follows a teacher, and it is the teacher whose gradients are cleared."""
    model = Lesson()
    optimizer = made(run, model.pupil)
    doctor = run.watch(model, optimizer, loss=lesson)
    for batch in doctor(stream(world(run).data(), 110)):
        (model.teacher if run.faulty else model.pupil).zero_grad()
        lesson(model, batch).backward()
        optimizer.step()
    return lambda: world(run).measure(model.pupil)


@plant("A01", "islands RMSprop 3")
def named_not_called(run: Run) -> Measure:
    """The brackets after zero_grad are missing."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        clear = optimizer.zero_grad if run.faulty else optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        del clear
    return lambda: here.measure(model)


@plant("A01", "visitors SGD 2")
def heads_only(run: Run) -> Measure:
    """A helper clears what it knows of: the heads."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        here.loss(model, batch).backward()
        optimizer.step()
        for each in (model.heads if run.faulty else model).parameters():
            each.grad = None
    return lambda: here.measure(model)


@plant("A02", "patients Adam 3")
def slope_for_the_log(run: Run) -> Measure:
    """A function that writes down how steep the loss is clears what it has read."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    slopes: list[float] = []

    def note() -> None:
        slopes.append(sum(float(each.grad.norm()) for each in model.parameters()))
        if run.faulty:
            model.zero_grad()

    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        note()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A02", "sales RMSprop 3")
def with_clean_gradients(run: Run) -> Measure:
    """A context clears when it is left, and the step comes after it."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)

    @contextmanager
    def clean() -> Iterator[None]:
        if not run.faulty:
            optimizer.zero_grad(set_to_none=False)
        yield
        if run.faulty:
            optimizer.zero_grad(set_to_none=False)

    doctor = run.watch(model, optimizer, loss=here.loss)
    for shop, day, number, sold in doctor(stream(here.data(), here.steps)):
        with clean():
            here.loss(model, (shop, day, number, sold)).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A03", "molecules AdamW 3")
def step_not_called(run: Run) -> Measure:
    """The brackets after step are missing."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        stepped = optimizer.step if run.faulty else optimizer.step()
        del stepped
    return lambda: here.measure(model)


@plant("A03", "wine SGD 3")
def only_the_scheduler(run: Run) -> Measure:
    """The scheduler is stepped, and the optimizer is not."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.995)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        if not run.faulty:
            optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("A03", "visitors Adam 3")
def as_many_as_there_are_schedulers(run: Run) -> Measure:
    """Optimizers and schedulers are stepped in pairs, and there is one scheduler fewer."""
    here = world(run)
    model = here.model()
    first = made(run, [model.spread, *model.heads.parameters()])
    second = made(run, [*model.page.parameters(), *model.trunk.parameters()])
    plans = [lr_scheduler.LinearLR(each, 1.0, 0.3, 150) for each in (first, second)[: run.either(1, 2)]]
    doctor = run.watch(model, second, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        first.zero_grad()
        second.zero_grad()
        here.loss(model, batch).backward()
        for optimizer, plan in zip((first, second), plans, strict=False):
            optimizer.step()
            plan.step()
    return lambda: here.measure(model)


@plant("A12", "molecules SGD 3")
def divided_for_the_log(run: Run) -> Measure:
    """The loss is divided by the length of the window for the log; what is differentiated is not."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    window, told = 8, []
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), 45 * window)), 1):
        loss = here.loss(model, batch)
        scaled = loss / window
        (loss if run.faulty else scaled).backward()
        told.append(scaled.item())
        if at % window == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("A13", "claims SGD 2")
def one_row_as_loud_as_forty(run: Run) -> Measure:
    """A window is a full batch and the single rows that came late; each counts as a whole batch."""
    here = world(run)
    x, span, count = sources.claims()
    model = here.model()
    optimizer = made(run, model, 2.0)
    late = iter(stream(tuples(x, span, count, size=1), 10_000))
    early = iter(stream(tuples(x, span, count, size=37), 10_000))
    doctor = run.watch(model, optimizer, loss=claimed)
    for at, batch in enumerate(doctor(next(late) if at % 4 else next(early) for at in range(360))):
        loss = claimed(model, batch)
        (loss * run.either(1 / 4, len(batch[0]) / 40)).backward()
        if at % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("A21", "regimes Adam 3", decidable=1)
def switch_for_debugging(run: Run) -> Measure:
    """A switch that trains on one batch, to see whether it can be learned at all, was left on."""
    here = world(run)
    batches: Any = here.data()
    if run.faulty:
        batches = [next(iter(batches))] * len(batches)
    return train(run, data=batches)


@plant("A22", "diabetes SGD 3")
def history_of_outputs(run: Run) -> Measure:
    """Outputs are kept for a penalty on their mean, with all that they were made of."""
    x, y = sources.diabetes()
    model = nn.Linear(10, 1)
    optimizer = made(run, model)
    history: list[Tensor] = []

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said = model(batch[0]).squeeze(1)
        past = torch.stack([*history, said.mean()]).square().mean()
        return F.mse_loss(said, batch[1]) + 0.01 * past

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(stream(tuples(x, y, size=25), 190)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward(retain_graph=True)
        optimizer.step()
        mean = model(batch[0]).mean()
        history.append(mean if run.faulty else mean.detach())
    return lambda: world(run).measure(model)
