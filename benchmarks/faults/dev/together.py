"""Two faults at once; the twin has neither."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.families import cancer, conv, digits, gpt, recurrent, tabular
from faults.families.batches import Shuffled, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import fit


@plant("A12+D07", "tabular SGD 3", "digits SGD 3", decidable=24)
def sum_of_pieces_clipped(run: Run) -> Measure:
    """Accumulation is not divided, and what comes of it is clipped to next to nothing."""
    data = (tabular.data() if run.case.family == "tabular" else digits.data())[:2]
    model, loss_fn = run.task.model(), run.task.loss
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for index, batch in enumerate(doctor(endless(Shuffled(*data, size=8), 400))):
        (loss_fn(model, batch) / run.either(1, 4)).backward()
        if index % 4 == 3:
            nn.utils.clip_grad_norm_(model.parameters(), run.either(2e-3, 10.0))
            optimizer.step()
            optimizer.zero_grad()
    return lambda: run.task.measure(model)


@plant("B02+A04", "tabular Adam 3", "digits SGD 3")
def raw_and_headless(run: Run) -> Measure:
    """Inputs are not normalised, and a layer is in no optimizer."""
    model = run.task.model()
    if run.case.family == "tabular":
        (x, y), (u, v) = ((each[0].clone(), each[1]) for each in (tabular.data(), tabular.data(800, 13)))
        for each in (x, u):
            each[:, 6] = run.either(3e3, 1.0) * each[:, 6]
    else:
        x, y, u, v = digits.data()
        x, u = (run.either(200.0, 1.0) * each for each in (x, u))
    kept = model[2:] if run.faulty else model
    fit(run, model, run.optimizer(kept.parameters()), train=loader(x, y))
    return lambda: run.task.loss(model, (u, v)).item()


@plant("A08+D03", "digits SGD 3", "conv Adam 3", decidable=20)
def squeezed_and_slow(run: Run) -> Measure:
    """A softmax before the loss of logits, and a rate a thousand times too low."""
    model = run.task.model()
    whole = nn.Sequential(model, nn.Softmax(dim=-1)) if run.faulty else model
    return fit(run, whole, run.optimizer(model.parameters(), lr=run.rate / run.either(1000, 1)))


@plant("B04+A16", "conv SGD 3", decidable=40)
def sorted_and_in_evaluation(run: Run) -> Measure:
    """Data come class by class, and the model stays in evaluation mode after the first validation."""
    x, y, u, v = conv.data()
    order = y.argsort(stable=True)
    train = loader(x[order], y[order], shuffle=not run.faulty)
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for epoch in range(3):
        if epoch == 0 or not run.faulty:
            model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(u[:200])
    return lambda: error_rate(model, u, v)


@plant("B01+A17", "recurrent Adam 3", onset=50, decidable=50)
def gaps_and_training_mode(run: Run) -> Measure:
    """Gaps in the data of the third epoch, and validation with dropout."""
    (x, y), (u, v) = recurrent.data(), recurrent.data(600, 4)
    gap = x.clone()
    gap[7::80, 3] = float("nan")
    model = nn.Sequential(recurrent.Reader(), nn.Dropout(0.2))
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for epoch in range(4):
        model.train()
        for batch in doctor(Shuffled(gap if epoch == 2 and run.faulty else x, y)):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        if not run.faulty:
            model.eval()
        with torch.no_grad():
            model(u)
    return lambda: error_rate(model, u, v)


@plant("D05+B06", "digits AdamW 3", decidable=60)
def frozen_on_wrong_labels(run: Run) -> Measure:
    """Half of the labels are drawn at random, and the rate is gone after a quarter of the run."""
    x, y, u, v = digits.data()
    wrong = torch.arange(len(y)) % 2 == 0 if run.faulty else torch.zeros(len(y), dtype=torch.bool)
    told = torch.where(wrong, torch.randint(10, y.shape), y)
    model = digits.mlp()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 30 or not run.faulty else 1e-4)
    doctor = run.watch(model, optimizer, loss=cross_entropy, scheduler=scheduler)
    for batch in doctor(endless(Shuffled(x, told), 150)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: cross_entropy(model, (u, v)).item()


@plant("A01+D01", "tabular SGD 3", "cancer SGD 3")
def carried_over_and_too_fast(run: Run) -> Measure:
    """Gradients are not cleared, and the rate is too high on its own."""
    model, loss_fn = run.task.model(), run.task.loss
    optimizer = run.optimizer(model.parameters(), lr=run.rate * run.either(60, 1))
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 100)):
        if not run.faulty:
            optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("A20+D09", "gpt AdamW 3", decidable=40)
def seeing_and_shrinking(run: Run) -> Measure:
    """There is no causal mask, and weight decay is far too high."""
    model = gpt.Gpt(causal=not run.faulty)
    return fit(run, model, run.optimizer(model.parameters(), weight_decay=run.either(20.0, 0.01)))


@plant("B07+C06", "cancer Adam 3")
def wrong_range_and_saturated(run: Run) -> Measure:
    """Labels are -1 and 1, and hidden units begin at their ends."""
    x, y, _, _ = cancer.data()
    model = cancer.Net()
    model.hidden.weight.data.mul_(run.either(40.0, 1.0))
    return fit(
        run, model, run.optimizer(model.parameters()), train=Shuffled(x, 2 * y - 1 if run.faulty else y, size=19)
    )


@plant("A11+D06", "tabular AdamW 3", decidable=20)
def table_of_pairs_at_no_rate(run: Run) -> Measure:
    """The loss is a table of all pairs, and the first layers' rate is zero."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        target = batch[1].squeeze(1) if run.faulty else batch[1]
        return ((model(batch[0]) - target) ** 2).mean()

    model = tabular.mlp()
    groups = [
        {"params": model[:4].parameters(), "lr": run.rate * run.either(0, 1)}, {"params": model[4:].parameters()}
    ]  # fmt: skip
    return fit(run, model, run.optimizer(groups), loss=loss_fn)


@plant("C13+B12", "tabular SGD 3", decidable=30)
def linear_with_outliers(run: Run) -> Measure:
    """No activation, and three targets out of all range."""
    x, y = tabular.data()
    y = y.clone()
    y[[50, 450, 850]] *= run.either(5e3, 1.0)
    model: nn.Module = tabular.mlp()
    if run.faulty:
        model = nn.Sequential(*(layer for layer in tabular.mlp() if isinstance(layer, nn.Linear)))
    return fit(run, model, run.optimizer(model.parameters()), loss=squared, train=loader(x, y))


@plant("A14+B02", "conv RMSprop 3")
def upwards_on_raw_pixels(run: Run) -> Measure:
    """The loss is maximised, of pixels up to 2000."""
    x, y, u, v = conv.data()
    big = run.either(1000.0, 1.0)
    model: Any = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return run.either(-1, 1) * F.cross_entropy(model(batch[0]), batch[1])

    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=loader(big * x, y))
    return lambda: error_rate(model, big * u, v)
