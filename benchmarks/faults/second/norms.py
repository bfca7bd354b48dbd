"""Batch norm where it cannot work (C07, C08)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import stream, tuples
from faults.second.loops import train
from faults.second.worlds import made, world


@plant("C07", "cells SGD 3")
def picture_by_picture(run: Run) -> Measure:
    """Pictures go through batch norm one or two at a time; the twin's norm is one of groups."""
    make, data = {"cells": (nets.UNet, sources.cells()), "glyphs": (nets.Signs, sources.glyphs())}[run.case.family]
    model = make(kind=run.either("batch", "group"))
    size = run.pick(2, 2, 1)
    scale = torch.linspace(0.2, 3.0, len(data[0])).view(-1, 1, 1, 1)
    data = (data[0] * scale, data[1])
    return train(run, model, made(run, model, 0.2), data=tuples(*data, size=size), steps=320, manner="steps")


@plant("C08", "cells AdamW 2", decidable=25)
def statistics_set_back(run: Run) -> Measure:
    """At the end of each epoch running statistics are set back, and then other data are looked at."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(4):
        model.train()
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        for each in model.modules():
            if isinstance(each, nn.BatchNorm2d) and run.faulty:
                each.reset_running_stats()
        here.measure(model)
    return lambda: here.measure(model)


@plant("C08", "glyphs SGD 2", decidable=20)
def statistics_of_the_last_batch(run: Run) -> Measure:
    """Momentum 1: the running statistics are those of the last batch, which is the odd one of each epoch."""
    here = world(run)
    model = here.model()
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.momentum = run.either(1.0, 0.1)
    x, y = sources.glyphs()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(4):
        model.train()
        for batch in doctor(both(stream(tuples(x, y, size=24), 25), (x[y == 0][:3] * 0.3, y[y == 0][:3]))):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        here.measure(model)
    return lambda: here.measure(model)


def both(batches: Iterator[Any], last: Any) -> Iterator[Any]:
    """Yield batches and then one more."""
    yield from batches
    yield last
