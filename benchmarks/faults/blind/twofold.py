"""Two faults at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import (
    arms,
    bars,
    counts,
    decided,
    echoes,
    made,
    near,
    repeated,
    series,
    spelled,
    tones,
    tuples,
    world,
)  # fmt: skip
from faults.case import Measure, Run, plant


@plant("A08+D03", "tones AdamW 3", "tones SGD 1")
def shares_at_a_low_rate(run: Run) -> Measure:
    """A softmax before the loss, and a tenth or less of the rate."""
    model = world(run).model()
    if run.faulty:
        model.append(nn.Softmax(dim=1))
    return train(run, model, made(run, model, run.either(run.pick(0.2, 0.1, 0.04), 1.0)))


@plant("B04+A12", "bars SGD 3", "spiral SGD 2")
def folders_and_windows(run: Run) -> Measure:
    """Rows by kind, and gradients of a window of six added up."""
    here = world(run)
    x, y = {"bars": bars, "spiral": arms}[run.case.family]()
    order = y.argsort(stable=True)
    model = here.model()
    optimizer = made(run, model, 1.5)
    doctor = run.watch(model, optimizer, loss=here.loss)
    data = tuples(x[order], y[order], size=20, shuffle=not run.faulty)
    for number, batch in enumerate(doctor(repeated(data, 240)), 1):
        (here.loss(model, batch) / run.either(1, 6)).backward()
        if number % 6 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("A04+D09", "duties AdamW 3", "clinic AdamW 1")
def left_out_and_decayed(run: Run) -> Measure:
    """One part is not in the optimizer; the others are decayed away."""
    model = world(run).model()
    missed = "amount" if run.case.family == "duties" else "block"
    chosen = [each for name, each in model.named_parameters() if not (run.faulty and missed in name)]
    return train(run, model, made(run, chosen, weight_decay=run.either(run.pick(5, 10, 20), 0.01)))


@plant("B02+D07", "radar SGD 3", "spiral SGD 2")
def raw_and_clipped(run: Run) -> Measure:
    """Inputs as they were measured, and, perhaps for that, gradients clipped to next to nothing."""
    here = world(run)
    x, y = {"radar": echoes, "spiral": arms}[run.case.family](1000)
    x = run.either(30.0 * x + 100.0, x)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(tuples(x[:800], y[:800], size=25), 180)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.either(0.02, 10.0))
        optimizer.step()

    @torch.no_grad()
    def measure() -> float:
        model.eval()
        return here.loss(model, (x[800:], y[800:])).item()

    return measure


class _Halfblind(nets.Form):
    """Forgets what was chosen."""

    def tokens(self, number: Tensor, choice: Tensor) -> Tensor:
        return super().tokens(number, torch.zeros_like(choice))


@plant("A18+A23", "clinic Adam 3")
def half_the_form_and_a_hasty_plan(run: Run) -> Measure:
    """Chosen fields do not reach the model, and a decay by epoch is applied by batch."""
    here = world(run)
    model = run.either(_Halfblind, nets.Form)()
    optimizer = made(run, model)
    scheduler = lr_scheduler.StepLR(optimizer, 2, 0.5)
    doctor = run.watch(model, optimizer, loss=decided, scheduler=scheduler)
    for _ in range(6):
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            decided(model, batch).backward()
            optimizer.step()
            if run.faulty:
                scheduler.step()
        if not run.faulty:
            scheduler.step()
    return lambda: here.measure(model)


class _Line(nets.Rate):
    """No bend."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.two(self.one(x))).squeeze(-1)


@plant("C13+D05", "counts Adam 3")
def straight_and_soon_at_rest(run: Run) -> Measure:
    """No activation, and a plan that ends after a tenth of the run."""
    here = world(run)
    model = run.either(_Line, nets.Rate)()
    optimizer = made(run, model, 0.5)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: max(1e-4, 1 - step / run.either(18, 220)))
    batches = list(zip(*(column.split(24) for column in counts()), strict=True))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(batches, 200)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("A10+B12", "weather SGD 2", "radar SGD 3")
def sums_and_outliers(run: Run) -> Measure:
    """A sum over rows, some of which have targets from nowhere."""
    here = world(run)
    x, y = {"weather": series, "radar": echoes}[run.case.family]()
    bad = torch.arange(len(y)) % 90 == 17
    y = y.where(~(bad & torch.tensor(run.faulty)), 40.0)

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1], reduction=run.either("sum", "mean"))

    model = here.model()
    return train(run, model, made(run, model, 0.3), loss=loss_fn, data=tuples(x, y, size=25))


def _told(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["source"], batch["target"]).flatten(0, 1), batch["target"].flatten())


@plant("A20+D14", "reverse Adam 3")
def told_and_numb(run: Run) -> Measure:
    """The decoder hears the answer, and epsilon is larger than the gradients."""
    model = world(run).model()
    optimizer = made(run, model, eps=run.either(0.03, 1e-8))
    return train(run, model, optimizer, loss=run.either(_told, spelled))


@plant("A01+B11", "tones SGD 2")
def few_rows_never_cleared(run: Run) -> Measure:
    """Gradients are not cleared, and the rows are few that come again and again."""
    here = world(run)
    x, y = {"radar": echoes, "tones": tones}[run.case.family]()
    rows = torch.arange(len(x)) % run.either(40, len(x))
    model = here.model()
    optimizer = made(run, model, 0.3)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(tuples(x[rows], y[rows], size=20), 150)):
        if not run.faulty:
            optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D06+A11", "weather Adam 3")
def still_half_and_broadcast(run: Run) -> Measure:
    """The reader's group has no rate, and outputs are a column against a row of targets."""
    here = world(run)
    model = here.model()
    rate = here.rates["Adam"]
    groups = [
        {"params": list(model.lstm.parameters()), "lr": run.either(0.0, rate)},
        {"params": list(model.out.parameters())},
    ]

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = model(batch[0])
        return ((told.unsqueeze(1) if run.faulty else told) - batch[1]).square().mean()

    optimizer = made(run, groups)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(*series(), size=32), 120)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("C05+D03", "radar Adam 3")
def dead_and_slow(run: Run) -> Measure:
    """Biases far below zero in the first layer, and a rate as for a last touch."""
    model = world(run).model()
    if run.faulty:
        nn.init.constant_(model.net[0].bias[4:], -12.0)
    return train(run, model, made(run, model, run.either(0.05, 1.0)), loss=near)
