"""Controls: training as it is."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.case import Measure, Run, healthy
from faults.second.batches import stream
from faults.second.loops import train
from faults.second.worlds import made, world


@healthy(
    "cards Adam", "cells SGD", "hands RMSprop", "whistles AdamW", "molecules Adam", "islands AdamW", "strokes SGD",
    "essays Adagrad", "patients RMSprop", "visitors SGD", "sales Adagrad", "clicks SGD", "glyphs RMSprop",
    "regimes Adam", "picture AdamW", "claims SGD", "wine RMSprop", "diabetes Adam", "sentences Adagrad",
)  # fmt: skip
def as_it_is(run: Run) -> Measure:
    """The plain training of each world."""
    return train(run)


@healthy("cards SGD", "essays AdamW", "sales RMSprop", "strokes Adam")
def half_the_rate(run: Run) -> Measure:
    """Half of a good rate, and more steps."""
    model = world(run).model()
    return train(run, model, made(run, model, 0.5), steps=world(run).steps * 3 // 2)


@healthy("glyphs Adagrad", "hands Adam", "whistles SGD", "claims Adam")
def a_little_above(run: Run) -> Measure:
    """A little above a good rate."""
    model = world(run).model()
    return train(run, model, made(run, model, 1.2))


@healthy("patients Adam", "regimes RMSprop")
def mixed_precision(run: Run) -> Measure:
    """The forward pass is in bfloat16."""
    return train(run, manner="autocast")


@healthy("sales AdamW", "strokes RMSprop")
def four_make_a_step(run: Run) -> Measure:
    """Four batches make a step, each by its share."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), 320)), 1):
        (here.loss(model, batch) / 4).backward()
        if at % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@healthy("molecules SGD", "islands Adam", scary=True)
def up_and_down(run: Run) -> Measure:
    """A rate that goes up and down in triangles."""
    return _planned(run, lambda at: 0.2 + 1.1 * abs(1 - (at % 60) / 30))


@healthy("sales AdamW", "essays SGD", scary=True)
def cliff_at_the_end(run: Run) -> Measure:
    """A high rate for most of the run, and then a quick end, at which the loss falls at once."""
    steps = world(run).steps
    return _planned(run, lambda at: 1.5 * min(1.0, (steps - at) / (0.2 * steps)))


@healthy("islands RMSprop", scary=True)
def begun_again_and_again(run: Run) -> Measure:
    """A cosine that starts again from the top."""
    return _planned(run, lambda at: 0.02 + 0.5 * (1 + math.cos(math.pi * (at % 70) / 70)))


@healthy("hands AdamW", scary=True)
def very_long_warmup(run: Run) -> Measure:
    """Half of the run is warmup."""
    return _planned(run, lambda at: min(1.0, (at + 1) / 75))


@healthy("hands Adam", "molecules AdamW", scary=True)
def always_clipped(run: Run) -> Measure:
    """Adam, and a norm to which gradients are nearly always cut."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.02)
        optimizer.step()
    return lambda: here.measure(model)


@healthy("cards SGD", scary=True)
def scale_that_is_too_high_at_first(run: Run) -> Measure:
    """A scaler leaves out the first steps, until its scale is right."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-14, growth_interval=1000)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        scaler.scale(8 * here.loss(model, batch)).backward()
        scaler.unscale_(optimizer)
        for each in model.parameters():
            if each.grad is not None:
                each.grad /= 8
        scaler.step(optimizer)
        scaler.update()
    return lambda: here.measure(model)


@healthy("hands RMSprop", scary=True)
def tuned_from_nearly_right(run: Run) -> Measure:
    """A model that sorts already goes on at a low rate: the loss begins near zero and falls little."""
    here = world(run)
    model = here.model()
    early = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in stream(here.data(), 80):
        early.zero_grad()
        here.loss(model, batch).backward()
        early.step()
    return train(run, model, made(run, model, 0.1), steps=70)


@healthy("essays SGD", scary=True)
def noised_for_privacy(run: Run) -> Measure:
    """Gradients are cut to a norm and noised."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        for each in model.parameters():
            each.grad += 0.002 * torch.randn_like(each)
        optimizer.step()
    return lambda: here.measure(model)


def _planned(run: Run, factor: Callable[[int], float]) -> Measure:
    """Train with a rate that is multiplied by a factor of the step."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LambdaLR(optimizer, factor)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)
