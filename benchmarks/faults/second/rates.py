"""Rates, plans and clipping (D01 to D08)."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.second import nets
from faults.second.batches import stream
from faults.second.loops import train
from faults.second.worlds import made, world


@plant("D01", "hands AdamW 3", "cards SGD 2")
def scaled_with_the_batch(run: Run) -> Measure:
    """The rate is multiplied by the number of machines, of which there is one."""
    by = {"hands": 24, "cards": 10}[run.case.family]
    model = world(run).model()
    return train(run, model, made(run, model, run.either(by, 1)))


@plant("D01", "regimes SGD 3", onset=80)
def top_of_the_cycle(run: Run) -> Measure:
    """A rate that goes up and down has a top that was read off the wrong axis; it is reached after eighty batches."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    top = run.either(60.0, 1.5)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step % 120 < 80 else top)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for x, y in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, (x, y)).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("D02", "essays SGD 2", "visitors RMSprop 1", decidable=40)
def as_in_the_paper(run: Run) -> Measure:
    """The rate of a paper on something larger: the loss falls at first and then goes no lower."""
    by = {"essays": 7, "visitors": 8}[run.case.family]
    model = world(run).model()
    return train(run, model, made(run, model, run.either(by, 1)))


@plant("D03", "sales Adagrad 3", "hands SGD 1")
def one_zero_too_many(run: Run) -> Measure:
    """The rate has a zero or more too many."""
    model = world(run).model()
    return train(run, model, made(run, model, run.either(run.pick(0.04, 0.02, 0.005), 1)))


class _Block(nn.Module):
    """Attention over a hand, norms after the sums, as in the first paper."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.key, self.face = nn.Embedding(8, wide), nn.Embedding(5, wide)
        self.mix = nn.ModuleList(nn.MultiheadAttention(wide, 2, batch_first=True) for _ in range(3))
        self.wide = nn.ModuleList(nets.perceptron(wide, 2 * wide, wide) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(wide) for _ in range(6))
        self.head = nn.Linear(wide, 5)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = torch.cat([self.key(batch["ask"]).unsqueeze(1), self.key(batch["key"]) + self.face(batch["face"])], dim=1)
        hidden = torch.cat([torch.zeros(len(x), 1, dtype=torch.bool), ~batch["there"]], dim=1)
        for at, (mix, wide) in enumerate(zip(self.mix, self.wide, strict=True)):
            x = self.norms[2 * at](x + mix(x, x, x, key_padding_mask=hidden, need_weights=False)[0])
            x = self.norms[2 * at + 1](x + wide(x))
        return self.head(x[:, 0])


@plant("D04", "cards Adam 3")
def norms_after_and_no_warmup(run: Run) -> Measure:
    """Three layers of attention with norms after the sums begin at the full rate."""
    here = world(run)
    model = _Block()
    optimizer = made(run, model, lr=0.02)
    early, steps = run.either(1, 60), 190
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / early, (steps - step) / 130, 1.0))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(stream(here.data(), steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("D05", "picture Adam 2", decidable=40)
def patience_of_nothing(run: Run) -> Measure:
    """The rate is halved whenever other data were not better than ever, looked at every third batch."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=run.either(0.25, 0.9), patience=run.either(0, 30), threshold=run.either(0.1, 1e-4)
    )
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for at, batch in enumerate(doctor(stream(here.data(), here.steps)), 1):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        if at % 3 == 0:
            scheduler.step(here.measure(model))
            model.train()
    return lambda: here.measure(model)


@plant("D05", "patients SGD 3", decidable=25)
def power_of_nine(run: Run) -> Measure:
    """A polynomial plan with a power that leaves next to nothing after a fifth of the run."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 0.5)
    scheduler = lr_scheduler.PolynomialLR(optimizer, here.steps, power=run.either(run.pick(20, 40, 60), 1.0))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("D06", "claims AdamW 3")
def set_where_nobody_reads(run: Run) -> Measure:
    """The optimizer begins at no rate, and the rate is set as its attribute, which nobody reads."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, lr=0.0)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), here.steps))):
        rate = here.rate("Adam") * min(1.0, (at + 1) / 10)
        if run.faulty:
            optimizer.lr = rate
        else:
            optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D06", "islands Adam 3")
def plan_of_another_optimizer(run: Run) -> Measure:
    """A warmup from next to nothing belongs to an optimizer that was made first and replaced."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LinearLR(optimizer, 1e-6, total_iters=20)
    if run.faulty:
        optimizer = deepcopy(optimizer)
        optimizer.param_groups[0]["params"] = list(model.parameters())
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("D07", "glyphs SGD 3", decidable=15)
def unit_by_unit(run: Run) -> Measure:
    """Each parameter's gradient is cut to a share of the parameter's norm that is far too small."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    share = run.either(run.pick(1e-2, 3e-3, 1e-3), 10.0)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        for each in model.parameters():
            limit = share * float(each.detach().norm().clamp(min=1e-2))
            each.grad.mul_(min(1.0, limit / (float(each.grad.norm()) + 1e-9)))
        optimizer.step()
    return lambda: here.measure(model)


@plant("D07", "essays SGD 2", decidable=15)
def value_for_norm(run: Run) -> Measure:
    """Values are clipped to what was meant as a norm, a small one."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for x, y in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, (x, y)).backward()
        nn.utils.clip_grad_value_(model.parameters(), run.either(3e-4, 1.0))
        optimizer.step()
    return lambda: here.measure(model)


@plant("D08", "strokes AdamW 3", decidable=10)
def spikes_everywhere(run: Run) -> Measure:
    """A guard leaves out steps whose gradient is above a running mean, which only sees those that were taken."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    usual = math.inf
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), 100.0))
        if norm <= usual * run.either(0.9, 8.0):
            optimizer.step()
            usual = norm if usual == math.inf else 0.9 * usual + 0.1 * norm
    return lambda: here.measure(model)
