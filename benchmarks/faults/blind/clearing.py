"""Clearing, stepping and accumulating (A01, A02, A03, A12, A13)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.blind.habits import Trainer
from faults.blind.worlds import drawn, made, repeated, tuples, world
from faults.case import Measure, Run, plant


class Every(Trainer):
    """Clears when a window of accumulation begins; steps at its end, or so it should."""

    every, steps_every, seen = 4, 4, 0

    def training_step(self, batch: Any) -> Tensor:
        """Clear when due; the loss of a batch."""
        if self.seen % self.every == 0:
            self.optimizer.zero_grad()
        return self.criterion(self.model, batch)

    def fit(self, epochs: int) -> None:
        """Train."""
        for _ in range(epochs):
            self.model.train()
            for batch in self.doctor(self.loader):
                (self.training_step(batch) / self.steps_every).backward()
                self.seen += 1
                if self.seen % self.steps_every == 0:
                    self.optimizer.step()


@plant("A01", "clinic SGD 3")
def window_left_from_accumulating(run: Run) -> Measure:
    """A step is taken at every batch now, but gradients are still cleared once in a window of sixteen."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 2.0)
    trainer = Every(run, model, optimizer, here.loss, here.data())
    trainer.steps_every, trainer.every = 1, run.either(16, 1)
    trainer.fit(here.epochs)
    return lambda: here.measure(model)


@plant("A01", "duties AdamW 3")
def one_of_two_optimizers(run: Run) -> Measure:
    """The trunk and the rest have an optimizer each, and only one is told to clear."""
    here = world(run)
    model = here.model()
    rest = [each for name, each in model.named_parameters() if name.startswith(("kind", "amount", "out"))]
    trunk = [each for each in model.parameters() if not any(each is other for other in rest)]
    slow, fast = made(run, trunk), made(run, rest)
    doctor = run.watch(model, slow, loss=here.loss)
    for batch in doctor(repeated(here.data(), 150)):
        loss = here.loss(model, batch)
        fast.zero_grad()
        if not run.faulty:
            slow.zero_grad()
        loss.backward()
        slow.step()
        fast.step()
    return lambda: here.measure(model)


@plant("A01", "reverse SGD 2", onset=40)
def lost_when_the_loop_was_copied(run: Run) -> Measure:
    """The loop of the second phase was copied from the first one, less a line."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 40)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    for batch in doctor(repeated(here.data(), 100)):
        if not run.faulty:
            optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A02", "pulses Adam 3")
def in_the_clipper(run: Run) -> Measure:
    """A helper clips, notes the norm, and clears: it is called before the step."""
    here = world(run)
    model = here.model()
    optimizer, norms = made(run, model), []

    def clip(limit: float) -> None:
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), limit))
        if run.faulty:
            optimizer.zero_grad()

    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(here.epochs):
        for batch in doctor(here.data()):
            here.loss(model, batch).backward()
            clip(10.0)
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


class Called(Trainer):
    """A trainer of call-backs."""

    early = False

    def fit(self, epochs: int) -> None:
        """Train."""
        for _ in range(epochs):
            for batch in self.doctor(self.loader):
                loss = self.training_step(batch)
                loss.backward()
                self.on_after_backward()
                self.optimizer.step()
                self.on_batch_end()

    def on_after_backward(self) -> None:
        """Do what is due after backward."""
        if self.early:
            self.model.zero_grad()

    def on_batch_end(self) -> None:
        """Do what is due when a batch is done."""
        if not self.early:
            self.model.zero_grad()


@plant("A02", "weather RMSprop 3")
def wrong_call_back(run: Run) -> Measure:
    """The call stands in the call-back after backward, not in the one at the end of a batch."""
    here = world(run)
    model = here.model()
    trainer = Called(run, model, made(run, model), here.loss, here.data())
    trainer.early = run.faulty
    trainer.fit(here.epochs)
    return lambda: here.measure(model)


@plant("A03", "lifetimes Adam 3")
def inside_the_branch_for_half_precision(run: Run) -> Measure:
    """The step was moved into the branch of the scaler, which is off."""
    here = world(run)
    model, half = here.model(), False
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 100)):
        optimizer.zero_grad()
        loss = here.loss(model, batch)
        loss.backward()
        if half or not run.faulty:
            optimizer.step()
    return lambda: here.measure(model)


@plant("A03", "inverse AdamW 3")
def of_the_averaged_copy(run: Run) -> Measure:
    """There is an optimizer for the model and one, of old, for its copy; the copy's is stepped."""
    here = world(run)
    model = here.model()
    copied = copy.deepcopy(model)
    optimizer, other = made(run, model), made(run, copied)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 120)):
        optimizer.zero_grad()
        other.zero_grad()
        here.loss(model, batch).backward()
        run.either(other, optimizer).step()
    return lambda: here.measure(model)


@plant("A03", "twins Adam 3", decidable=24)
def window_longer_than_the_epoch(run: Run) -> Measure:
    """Batches are counted anew in each epoch, which has fewer of them than make a step."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 2.0)
    window = run.either(32, 4)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(8):
        for number, batch in enumerate(doctor(here.data())):
            (here.loss(model, batch) / window).backward()
            if (number + 1) % window == 0:
                optimizer.step()
                optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("A12", "weather SGD 2")
def windows_of_eight(run: Run) -> Measure:
    """Eight batches make a step, and their gradients are added."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, run.pick(1.0, 2.0, 3.0))
    doctor = run.watch(model, optimizer, loss=here.loss)
    for number, batch in enumerate(doctor(repeated(here.data(), 240)), 1):
        loss = here.loss(model, batch)
        if not run.faulty:
            loss = loss / 8
        loss.backward()
        if number % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("A12", "pulses SGD 3")
def parts_of_a_batch(run: Run) -> Measure:
    """A batch is cut into ten parts for memory; each part's mean counts whole."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 5.0)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(3):
        for trace, mark in doctor(here.data()):
            optimizer.zero_grad()
            parts = list(zip(trace.split(2), mark.split(2), strict=True))
            for part in parts:
                (here.loss(model, part) / run.either(1, len(parts))).backward()
            optimizer.step()
    return lambda: here.measure(model)


def ragged(rows: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return sequences: most have two places, whose slope is another than that of the long ones, of forty."""
    draw, found = drawn(seed), []
    for row in range(rows):
        long = 40 if row % 4 == 0 else 2
        x = torch.randn(long, 4, generator=draw)
        slope = torch.tensor([1.0, -1.0, 0.5, 0.0]) if long == 40 else torch.tensor([-0.5, 0.2, 0.0, 1.0])
        found.append((x, x @ slope + 0.1 * torch.randn(long, generator=draw)))
    return found


def of_places(model: nn.Module, sequence: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean over the places of a sequence."""
    return F.mse_loss(model(sequence[0]).squeeze(-1), sequence[1])


@plant("A13", "ragged Adam 2")
def long_and_short_alike(run: Run) -> Measure:
    """Four sequences make a step: a mean of their means, where the mean of all places is wanted."""
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = run.optimizer(model.parameters(), lr=0.05 if run.case.optimizer == "SGD" else 0.01)
    sequences, tests = ragged(240, 301), ragged(80, 302)
    doctor = run.watch(model, optimizer, loss=of_places)
    window: list[tuple[Tensor, Tensor]] = []
    for sequence in doctor(repeated(sequences, 480)):
        window.append(sequence)
        places = sum(len(y) for _, y in window)
        if len(window) == 4:
            optimizer.zero_grad()
            for each in window:
                share = run.either(1 / 4, len(each[1]) / places)
                (of_places(model, each) * share).backward()
            optimizer.step()
            window = []

    def measure() -> float:
        x, y = (torch.cat(column) for column in zip(*tests, strict=True))
        return of_places(model, (x, y)).item()

    return measure


@plant("A13", "counts SGD 2", "radar AdamW 1")
def short_last_batch(run: Run) -> Measure:
    """Windows are of a large batch and a small one, whose few rows are of another region, and weigh as much."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    x, y = (column for column in next(iter(tuples(*_all(here), size=10_000))))
    odd = x[:, 0] + x[:, 1] > 1.5
    large, small = tuples(x[~odd], y[~odd], size=44), tuples(x[odd], 0.3 * y[odd] - 1.0 * (x[odd, 2] > 0) + 1, size=4)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for one, other in doctor(zip(repeated(large, 150), repeated(small, 150), strict=True)):
        optimizer.zero_grad()
        rows = len(one[0]) + len(other[0])
        for batch in (one, other):
            (here.loss(model, batch) * run.either(0.5, len(batch[0]) / rows)).backward()
        optimizer.step()
    return lambda: here.measure(model)


def _all(here: Any) -> tuple[Tensor, Tensor]:
    batches = list(here.data())
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
