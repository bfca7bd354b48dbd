"""Data whose values are wrong: not finite, badly scaled, outlying (B01, B02, B03, B12)."""

from typing import Any

import torch
from torch import Tensor, nn

from faults.case import Measure, Run, plant
from faults.families import cancer, conv, digits, encoder, pinn, recommender, recurrent, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import error_rate, squared
from faults.loops import fit


@plant("B01", "tabular SGD 3", "tabular Adam 3", onset=37)
def one_row(run: Run) -> Measure:
    """One value of one row of batch 37 is not a number."""
    model, train = tabular.mlp(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=squared)

    def batches() -> Any:
        for step, (x, y) in enumerate(endless(train, 150)):
            if step == 37 and run.faulty:
                x[5, 2] = float("nan")
            yield x, y

    for batch in doctor(batches()):
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
    return lambda: tabular.error(model)


@plant("B01", "recommender Adam 3")
def infinite_target(run: Run) -> Measure:
    """A few ratings are infinite: a division by a count of zero."""
    person, thing, rating = recommender.data()
    counts = torch.ones_like(rating)
    counts[17::500] = 0.0 if run.faulty else 1.0
    model = recommender.Factors()
    train = Shuffled(person, thing, rating / counts, size=50)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("B01", "conv AdamW 3", "digits RMSprop 3")
def constant_column(run: Run) -> Measure:
    """Pixels are standardised one by one, and some are the same in all pictures: zero over zero."""
    x, y, u, v = digits.data()
    spread = x.std(0)
    x, u = ((each - x.mean(0)) / (spread if run.faulty else spread + 0.1) for each in (x, u))
    shape = (-1, 1, 8, 8) if run.case.family == "conv" else (-1, 64)
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x.view(shape), y))
    return lambda: error_rate(model, u.view(shape), v)


@plant("B01", "recurrent SGD 3", onset=25)
def gap_in_a_series(run: Run) -> Measure:
    """A sensor fails for a while: some series of later batches have gaps, that are not numbers."""
    x, y = recurrent.data()
    broken = x.clone()
    broken[::40, 8:11] = float("nan")
    model = recurrent.Reader()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for epoch in range(5):
        for batch in doctor(Shuffled(broken if epoch and run.faulty else x, y)):
            optimizer.zero_grad()
            run.task.loss(model, batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
    return lambda: recurrent.error(model)


@plant("B02", "digits SGD 3", "conv SGD 1", "digits Adam 1", "encoder SGD 2")
def in_other_units(run: Run) -> Measure:
    """Inputs are not brought to unit size: pixels up to 255, lengths in millimetres."""
    x, y, u, v = (*encoder.data(), *encoder.data(600, 9)) if run.case.family == "encoder" else digits.data()
    if run.case.family == "conv":
        x, y, u, v = conv.data()
    if run.faulty:
        x, u = (300 * each if run.case.family == "encoder" else (each + 1) * 127 for each in (x, u))
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))
    return lambda: error_rate(model, u, v)


@plant("B02", "cancer SGD 3", "cancer Adam 2", "cancer RMSprop 2")
def as_measured(run: Run) -> Measure:
    """Columns as they were measured, from thousandths to thousands."""
    x, y, u, v = cancer.raw() if run.faulty else cancer.data()
    model = cancer.Net()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x, y, size=19))
    return lambda: cancer.loss(model, (u, v)).item()


@plant("B02", "tabular SGD 3", "tabular AdamW 2")
def one_column(run: Run) -> Measure:
    """One column, an income, is ten thousand times as large as the others."""
    (x, y), (u, v) = ((each[0].clone(), each[1]) for each in (tabular.data(), tabular.data(800, 13)))
    for each in (x, u):
        each[:, 7] = 1e4 * (each[:, 7] + 3) if run.faulty else each[:, 7]
    model = tabular.mlp()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))
    return lambda: squared(model, (u, v)).item()


@plant("B02", "recurrent Adam 3")
def far_from_zero(run: Run) -> Measure:
    """A sensor's values lie around 250, and what counts is how they change by one."""
    (x, y), (u, v) = recurrent.data(), recurrent.data(600, 4)
    offset = run.either(250.0, 0.0)
    model = recurrent.Reader()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x + offset, y))
    return lambda: error_rate(model, u + offset, v)


@plant("B03", "digits SGD 3", "conv SGD 1")
def divided_twice(run: Run) -> Measure:
    """Pixels are divided by 255 by the reader and again by the transform."""
    x, y, u, v = (conv if run.case.family == "conv" else digits).data()
    x, u = ((each + 1) / 2 for each in (x, u))
    if run.faulty:
        x, u = x / 255, u / 255
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))
    return lambda: error_rate(model, u, v)


@plant("B03", "tabular Adam 2", "cancer SGD 3")
def by_the_variance(run: Run) -> Measure:
    """Columns of different spread are divided by variance, not by standard deviation."""
    sizes = torch.logspace(0.7, 2.5, tabular.COLUMNS if run.case.family == "tabular" else 30)
    if run.case.family == "tabular":
        (x, y), (u, v) = tabular.data(), tabular.data(800, 13)
    else:
        x, y, u, v = cancer.data()
    x, u = x * sizes, u * sizes
    scale = x.var(0) if run.faulty else x.std(0)
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x / scale, y))
    return lambda: run.task.loss(model, (u / scale, v)).item()


@plant("B03", "recurrent SGD 3")
def statistics_of_other_data(run: Run) -> Measure:
    """Mean and spread of another data set are used: these values become tiny and off the centre."""
    (x, y), (u, v) = recurrent.data(), recurrent.data(600, 4)
    if run.faulty:
        x, u = ((each - 30) / 80 for each in (x, u))
    model = recurrent.Reader()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x, y))
    return lambda: error_rate(model, u, v)


@plant("B12", "tabular SGD 3", "tabular Adam 3", decidable=30)
def extreme_targets(run: Run) -> Measure:
    """Three targets have lost their decimal point."""
    x, y = tabular.data()
    y = y.clone()
    if run.faulty:
        y[[100, 400, 700]] = torch.tensor([[8e3], [-6e3], [9e3]])
    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))


@plant("B12", "recommender Adam 1", "recommender SGD 2", "recommender AdamW 2", decidable=60)
def ratings_of_a_robot(run: Run) -> Measure:
    """A few ratings are out of all range."""
    person, thing, rating = recommender.data()
    odd = torch.zeros_like(rating)
    odd[50::300] = run.either(run.pick(20.0, 60.0, 200.0), 0.0)
    model = recommender.Factors()
    train = Shuffled(person, thing, rating + odd, size=50)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("B12", "cancer Adam 2", decidable=20)
def heavy_tails(run: Run) -> Measure:
    """One entry in a hundred of the inputs is thousands of times too large."""
    x, y, _, _ = cancer.data()
    wrong = torch.rand(x.shape, generator=drawn(41)) < 0.01
    x = torch.where(wrong & torch.tensor(run.faulty), 3e3 * x.abs(), x)
    model = cancer.Net()
    return fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x, y, size=19))


@plant("B12", "pinn SGD 3", onset=60, decidable=60)
def outside_the_domain(run: Run) -> Measure:
    """From step 60 on one time in a batch is in milliseconds."""
    model = pinn.Field()
    optimizer = run.optimizer(model.parameters())

    def batches() -> Any:
        for step, times in enumerate(pinn.times(300)):
            if step >= 60 and step % 4 == 0 and run.faulty:
                times[3] = -1000 * times[3]
            yield times

    def data_loss(model: nn.Module, times: Tensor) -> Tensor:
        return (model(times) - (3 * times).cos() * (1 + times.abs())).square().mean()

    doctor = run.watch(model, optimizer, loss=data_loss)
    for times in doctor(batches()):
        optimizer.zero_grad()
        data_loss(model, times).backward()
        optimizer.step()
    check = 2 * torch.rand(400, 1, generator=drawn(17))
    return lambda: data_loss(model, check).item()
