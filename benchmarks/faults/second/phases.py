"""Modes, schedules and what is taken up again (A16, A17, A23, A24)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import bags, stream
from faults.second.loops import train
from faults.second.worlds import made, world


class _Kept(nets.UNet):
    def train(self, mode: bool = True) -> "_Kept":
        """Set the mode of all but norms."""
        super().train(mode)
        for each in self.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.eval()
        return self


@plant("A16", "cells SGD 3")
def norms_kept_from_the_start(run: Run) -> Measure:
    """A train() that spares norms, written for fine-tuning, over a net that begins from nothing."""
    model = run.either(_Kept, nets.UNet)()
    for each in (model.down, model.deep, model.decode):
        nn.init.normal_(each[0].weight, std=0.01)
    return train(run, model)


@plant("A16", "sentences AdamW 2", onset=25, decidable=50)
def back_only_when_better(run: Run) -> Measure:
    """After a look at other data training mode is set again only where the look was much better than the best."""
    here = world(run)
    model = nets.Words(wide=32, dropout=0.7)
    optimizer = made(run, model, 2.0)
    best = math.inf
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(9):
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        found = here.measure(model)
        if not run.faulty or found < best - 0.3:
            best = min(best, found)
            model.train()
    return lambda: here.measure(model)


class _Careless(nets.Words):
    def forward(self, words: Tensor, starts: Tensor) -> Tensor:
        said = self.words(words, starts)
        return self.head(F.dropout(said, 0.5, training=True) if self.careless else F.dropout(said, 0.5, self.training))

    careless = False


@plant("A17", "sentences RMSprop 3", decidable=30)
def dropout_without_a_flag(run: Run) -> Measure:
    """The function for dropout is called without being told whether the model is in training."""
    model = _Careless(dropout=0.0)
    model.careless = run.faulty
    model.train()
    here = world(run)
    optimizer = made(run, model)
    lines = bags(sources.sentences(True))
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(4):
        model.train()
        for words, starts, kind in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, (words, starts, kind)).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            here.loss(model, lines)
    return lambda: here.measure(model)


@plant("A23", "cells AdamW 3", decidable=25)
def warmup_counted_in_epochs(run: Run) -> Measure:
    """A warmup of so many batches is stepped once an epoch, so that it hardly begins."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / run.pick(60, 60, 100) * 2))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for _ in range(run.pick(4, 4, 5)):
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
            if not run.faulty:
                scheduler.step()
        if run.faulty:
            scheduler.step()
    return lambda: here.measure(model)


@plant("A23", "claims Adam 3", decidable=20)
def plan_by_parts_of_a_step(run: Run) -> Measure:
    """Eight batches make a step; the plan is for steps, and is stepped at every batch."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 42))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for at, batch in enumerate(doctor(stream(here.data(), 320)), 1):
        (here.loss(model, batch) / 8).backward()
        if run.faulty:
            scheduler.step()
        if at % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()
            if not run.faulty:
                scheduler.step()
    return lambda: here.measure(model)


@plant("A24", "sales RMSprop 3", onset=8, decidable=16)
def each_job_begins_the_same(run: Run) -> Measure:
    """Short jobs follow each other with the model's and the optimizer's state, but each draws its rows as the first."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    seed = int(torch.randint(1000, ()))

    def job(number: int) -> Any:
        torch.manual_seed(seed + run.either(0, number))
        return stream(here.data(), 4)

    doctor = run.watch(model, optimizer, loss=here.loss)
    for number in range(40):
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        for batch in doctor(job(number)):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
    return lambda: here.measure(model)
