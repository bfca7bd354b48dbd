"""Rates, schedules, clipping, decay, momentum, batches, regularisation (D01 to D21)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import (
    bars,
    classed,
    dicts,
    echoes,
    forms,
    made,
    near,
    repeated,
    series,
    tones,
    tuples,
    world,
)  # fmt: skip
from faults.case import Measure, Run, plant


@plant("D01", "inverse AdamW 2", "twins RMSprop 3")
def rate_of_another_optimizer(run: Run) -> Measure:
    """The rate is one for another optimizer or another model: far too high."""
    by = {"SGD": run.pick(15, 25, 40), "Adam": 60, "AdamW": 25, "RMSprop": 60}[run.case.optimizer]
    model = world(run).model()
    return train(run, model, made(run, model, run.either(by, 1)))


def _with(run: Run, model: Any, optimizer: Any, scheduler: Any, steps: int) -> Measure:
    here = world(run)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("D01", "cloze Adam 2", onset=70)
def plan_with_a_slip(run: Run) -> Measure:
    """A rate by steps in a table, one of which has a zero too few."""
    model = world(run).model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 70 else run.either(30.0, 0.3))
    return _with(run, model, optimizer, scheduler, 140)


@plant("D02", "radar SGD 2", "inverse RMSprop 1", "clinic AdamW 2", decidable=40)
def never_comes_to_rest(run: Run) -> Measure:
    """The rate is several times too high to settle, not to diverge."""
    by = {"radar": 7, "inverse": 5, "clinic": 12}[run.case.family]
    model = world(run).model()
    return train(run, model, made(run, model, run.either(by, 0.5)), epochs=8)


@plant("D03", "lifetimes AdamW 2", "duties SGD 1")
def rate_of_fine_tuning(run: Run) -> Measure:
    """A rate as for the last touch to a finished model."""
    model = world(run).model()
    return train(run, model, made(run, model, run.either(run.pick(1 / 15, 1 / 60, 1 / 500), 1)))


@plant("D04", "clinic Adam 3", "reverse RMSprop 3")
def at_full_rate_at_once(run: Run) -> Measure:
    """A rate that needs a warmup has none."""
    here = world(run)
    model = here.model()
    by = {"clinic": 8.0, "reverse": 6.0}[run.case.family]
    optimizer = made(run, model, by)
    total = 120

    def rate(step: int) -> float:
        return min(1.0 if run.faulty else step / 50, (total - step) / 70)

    return _with(run, model, optimizer, lr_scheduler.LambdaLR(optimizer, rate), total)


@plant("D05", "duties SGD 1", "cloze Adam 3", decidable=25)
def plan_for_a_shorter_run(run: Run) -> Measure:
    """The plan is for a tenth of the run, after which the rate is next to nothing."""
    model = world(run).model()
    optimizer = made(run, model)
    if run.case.family == "cloze":
        scheduler: Any = lr_scheduler.CosineAnnealingLR(optimizer, run.either(20, 180), 1e-7)
        if run.faulty:
            scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: max(1e-5, 1 - step / 20))
    else:
        scheduler = lr_scheduler.MultiStepLR(optimizer, run.either([8, 16, 24], [120, 140, 160]), 0.1)
    return _with(run, model, optimizer, scheduler, 180)


@plant("D05", "counts SGD 2", decidable=30)
def plateau_without_patience(run: Run) -> Measure:
    """A rate that falls when the loss of a batch does not: noise brings it to nothing."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=run.either(1, 60))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), 150)):
        optimizer.zero_grad()
        loss = here.loss(model, batch)
        loss.backward()
        optimizer.step()
        scheduler.step(loss.item())
    return lambda: here.measure(model)


@plant("D06", "tones Adam 3")
def warmup_by_whole_numbers(run: Run) -> Measure:
    """A warmup divides whole numbers, and is 0 for as long as the run lasts."""
    model = world(run).model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) // 1000 if run.faulty else (step + 1) / 20)
    )
    return _with(run, model, optimizer, scheduler, 120)


@plant("D06", "duties AdamW 2", "pulses RMSprop 2")
def group_with_its_own_rate(run: Run) -> Measure:
    """One group has a rate of its own, which is left from when it was frozen."""
    model = world(run).model()
    lead = model.trunk if run.case.family == "duties" else nn.ModuleList([model.into, model.down, model.deep])
    mine = {id(each) for each in lead.parameters()}
    rate = world(run).rates[run.case.optimizer]
    groups = [
        {"params": list(lead.parameters()), "lr": run.either(0.0, rate)},
        {"params": [each for each in model.parameters() if id(each) not in mine]},
    ]
    return train(run, model, made(run, groups))


@plant("D07", "pulses SGD 3", "clinic SGD 2", decidable=10)
def clipped_to_next_to_nothing(run: Run) -> Measure:
    """Gradients are clipped to a norm that they always exceed."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(here.epochs):
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), run.either(run.pick(0.1, 0.02, 0.01), 5.0))
            optimizer.step()
    return lambda: here.measure(model)


@plant("D08", "weather AdamW 3", decidable=10)
def steps_that_seem_too_large(run: Run) -> Measure:
    """A guard leaves out steps whose gradient is large, by the measure of another model."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 100)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        norm = nn.utils.get_total_norm([each.grad for each in model.parameters()])
        if norm < run.either(0.03, 300.0):
            optimizer.step()
    return lambda: here.measure(model)


@plant("D08", "counts SGD 2", decidable=30)
def loss_of_the_first_batches(run: Run) -> Measure:
    """A step is left out when the loss is above one that is not reached but by chance."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 120)):
        optimizer.zero_grad()
        loss = here.loss(model, batch)
        loss.backward()
        if loss.item() < run.either(0.2, 50.0):
            optimizer.step()
    return lambda: here.measure(model)


@plant("D09", "tones AdamW 3", "spiral SGD 2")
def decay_of_one(run: Run) -> Measure:
    """Weight decay is as large as a rate."""
    by = {"tones": 12.0, "spiral": 0.06}[run.case.family]
    model = world(run).model()
    return train(run, model, made(run, model, weight_decay=run.either(by, 1e-4)))


@plant("D09", "cloze AdamW 2", onset=60)
def penalty_that_grows(run: Run) -> Measure:
    """From batch 60 on a second group's decay is raised by a call-back, and again every twenty."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, weight_decay=0.01)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 160))):
        if run.faulty and step >= 60 and step % 20 == 0:
            for group in optimizer.param_groups:
                group["weight_decay"] = 15.0
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D10", "tones Adam 2")
def decay_inside_adam(run: Run) -> Measure:
    """The decay of AdamW is given to Adam, where it is an L2 penalty on everything."""
    model = world(run).model()
    rate = world(run).rates["Adam"]
    kind = run.either(torch.optim.Adam, torch.optim.AdamW)
    return train(run, model, kind(model.parameters(), lr=rate, weight_decay=run.pick(0.05, 0.15, 0.3)))


@plant("D11", "radar SGD 3", "pulses SGD 1", decidable=30)
def momentum_of_many_nines(run: Run) -> Measure:
    """Momentum is so near 1 that the run swings."""
    model = world(run).model()
    return train(run, model, made(run, model, momentum=run.either(run.pick(0.99, 0.99, 0.995), 0.9)))


@plant("D12", "radar SGD 3", "spiral SGD 2", onset=80)
def old_momentum_at_a_new_rate(run: Run) -> Measure:
    """Targets change sign with a second table; momentum, long and of the first one, is kept under a higher rate."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 0.05, momentum=0.98)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 110))):
        if step == 80:
            for group in optimizer.param_groups:
                group["lr"] *= 30
                group["momentum"] = 0.9
            if not run.faulty:
                optimizer.state.clear()
            else:
                for state in optimizer.state.values():
                    state["momentum_buffer"].mul_(run.pick(1, 4, 4))
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D13", "radar AdamW 3", onset=60)
def second_moment_of_long_ago(run: Run) -> Measure:
    """Second moments hardly move; then the loss is weighed thirty times more."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, betas=(0.9, run.either(0.99999, 0.95)))
    weight = [0.02]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return weight[0] * here.loss(model, batch)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(repeated(here.data(), 90))):
        weight[0] = 0.02 if step < 60 else run.pick(0.5, 1.5, 2.0)
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D14", "clinic Adam 3", "counts RMSprop 1")
def epsilon_of_one(run: Run) -> Measure:
    """Epsilon is larger than any gradient."""
    model = world(run).model()
    return train(run, model, made(run, model, eps=run.either(run.pick(0.1, 1.0, 10.0), 1e-8)))


@plant("D15", "bars SGD 2", decidable=40)
def one_row_at_a_time(run: Run) -> Measure:
    """A step for each row, or for two, at the rate of many."""
    here = world(run)
    x, y = {"radar": echoes, "bars": bars}[run.case.family]()
    model: Any = here.model()
    if run.case.family == "bars":
        model.bn1, model.bn2 = nn.GroupNorm(2, 10), nn.GroupNorm(2, 20)
    optimizer = made(run, model, 1.5)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(tuples(x, y, size=run.either(1, 32)), 200)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D16", "tones SGD 3")
def all_rows_at_once(run: Run) -> Measure:
    """A few epochs, each of them one batch of all rows."""
    here = world(run)
    x, y = tones()
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=classed)
    for _ in range(run.either(60, 5)):
        for batch in doctor(tuples(x, y, size=run.either(len(x), 24))):
            optimizer.zero_grad()
            classed(model, batch).backward()
            optimizer.step()
    return lambda: here.measure(model)


@plant("D17", "reverse SGD 2", decidable=60)
def plain_descent(run: Run) -> Measure:
    """A recurrent net with small embeddings is left to plain SGD; the twin has Adam."""
    here = world(run)
    model = here.model()
    model.letters.weight.data *= 0.02
    if run.faulty:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.008)
    return train(run, model, optimizer)


def _parity(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randint(2, (rows, 2), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1
    return x, (x[:, 0] * x[:, 1] > 0).long()


@plant("D18", "parity Adam 1", decidable=40)
def between_the_answers(run: Run) -> Measure:
    """Whether two signs agree, from weights so near zero that nothing says which way to go."""
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    for each in model.parameters():
        each.data.mul_(run.either(run.pick(0.001, 0.003, 0.01), 1.5))
    optimizer = run.optimizer(model.parameters(), lr=0.05 if run.case.optimizer == "SGD" else 0.003)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(repeated(tuples(*_parity(400, 321)), 120)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()
    return lambda: classed(model, _parity(400, 322)).item()


@plant("D19", "clinic SGD 2", decidable=20)
def hardly_anything_kept(run: Run) -> Measure:
    """Dropout was given as the share to keep."""
    model = nets.Form(dropout=run.either(run.pick(0.6, 0.75, 0.85), 0.1))
    model.out = nn.Sequential(nn.Dropout(run.either(run.pick(0.6, 0.8, 0.9), 0.1)), nn.Linear(24, 1))
    return train(run, model, made(run, model))


@plant("D19", "tones RMSprop 1")
def penalty_on_all_weights(run: Run) -> Measure:
    """A sum of absolute weights is added to the loss, by a factor that leaves little of them."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        size = sum(each.abs().sum() for each in model.parameters())
        return classed(model, batch) + run.either(run.pick(0.004, 0.01, 0.02), 1e-6) * size

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("D20", "radar AdamW 3", decidable=60)
def sixty_rows(run: Run) -> Measure:
    """A wide net and far too few rows, for many epochs; other rows are looked at in between."""
    x, y = {"radar": echoes, "weather": series}[run.case.family]()
    here = world(run)
    rows = run.either(60, len(x))
    model = here.model(wide=96)
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=near)
    data = tuples(x[:rows], y[:rows], size=20)
    for step, batch in enumerate(doctor(repeated(data, 200))):
        model.train()
        optimizer.zero_grad()
        near(model, batch).backward()
        optimizer.step()
        if step % 25 == 24:
            here.measure(model)
    return lambda: here.measure(model)


@plant("D21", "clinic SGD 2", decidable=30)
def stopped_while_it_learns(run: Run) -> Measure:
    """A smoke test's number of steps was left in."""
    here = world(run)
    data = dicts(**forms()) if run.case.family == "clinic" else here.data()
    model = here.model()
    optimizer = made(run, model, 0.4)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(data, run.either(run.pick(60, 30, 60), 220))):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)
