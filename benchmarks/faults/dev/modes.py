"""Training in evaluation mode, evaluation in training mode (A16, A17)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import conv, digits, encoder, graph
from faults.families.batches import Shuffled, endless, loader
from faults.families.scores import cross_entropy, error_rate


def dropped(wide: int = 96, dropout: float = 0.5) -> nn.Sequential:
    """Return a perceptron with dropout, for few rows."""
    return nn.Sequential(
        nn.Linear(64, wide), nn.ReLU(), nn.Dropout(dropout), nn.Linear(wide, wide), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(wide, 10),
    )  # fmt: skip


@plant("A16", "digits Adam 3", "digits AdamW 3")
def after_a_sanity_check(run: Run) -> Measure:
    """A first validation, before any step, puts a deep net with batch norm into evaluation mode, where it stays."""
    layers = [each for _ in range(9) for each in (nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())]
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), *layers, nn.Linear(32, 10))
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(4):
        model.eval()
        with torch.no_grad():
            cross_entropy(model, digits.data()[2:])
        if not run.faulty:
            model.train()
        for batch in doctor(run.task.train()):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
    return lambda: digit_loss(model)


@torch.no_grad()
def digit_loss(model: nn.Module) -> float:
    """Return the cross-entropy on the test digits."""
    model.eval()
    return cross_entropy(model, digits.data()[2:]).item()


@plant("A16", "conv SGD 3")
def from_the_start(run: Run) -> Measure:
    """A deep convolutional net is in evaluation mode from the start: batch norm does not normalise."""
    layers: list[nn.Module] = []
    for before in (1, *[12] * 7):
        layers += [nn.Conv2d(before, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 64, 10))
    optimizer = run.optimizer(model.parameters(), lr=0.02)
    model.train(not run.faulty)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(loader(*conv.data()[:2], size=32), 70)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: conv.error(model)


@plant("A16", "graph AdamW 2")
def in_a_helper(run: Run) -> Measure:
    """A helper that tells the training error switches to evaluation mode in each step and does not switch back."""
    model = graph.Network(wide=64, dropout=0.7)
    optimizer = run.optimizer(model.parameters(), lr=0.03)
    few = graph.data().known.clone()
    few[few.nonzero().squeeze(1)[::2]] = False
    data = graph.data()._replace(known=few)

    def report() -> None:
        model.eval()
        with torch.no_grad():
            graph.loss(model, data)
        if not run.faulty:
            model.train()

    doctor = run.watch(model, optimizer, loss=graph.loss)
    for _ in range(150):
        for batch in doctor([data]):
            optimizer.zero_grad()
            graph.loss(model, batch).backward()
            optimizer.step()
        report()
    return lambda: unknown_loss(model)


@torch.no_grad()
def unknown_loss(model: nn.Module) -> float:
    """Return the cross-entropy of the nodes that are not trained on."""
    model.eval()
    data = graph.data()
    return F.cross_entropy(model(data.marks, data.edges)[~data.known], data.circles[~data.known]).item()


def validating(run: Run, model: nn.Module, train: Any, check: Any, epochs: int) -> Measure:
    """Train, checking after each epoch; the measure is what the last check said."""
    optimizer = run.optimizer(model.parameters())
    told: list[float] = []
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(epochs):
        model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        if not run.faulty:
            model.eval()
        with torch.no_grad():
            told.append(check(model))
    return lambda: told[-1]


@plant("A17", "digits SGD 2", "digits Adam 2", decidable=31)
def dropout_in_validation(run: Run) -> Measure:
    """Validation runs with dropout."""
    _, _, u, v = digits.data()
    return validating(
        run, dropped(), Shuffled(*digits.data()[:2], size=32), lambda model: cross_entropy(model, (u, v)).item(), 4
    )


@plant("A17", "conv Adam 3", decidable=32)
def tiny_batches_in_validation(run: Run) -> Measure:
    """Validation runs class by class, in training mode: batch norm takes its statistics from each class."""
    _, _, u, v = conv.data()

    def check(model: nn.Module) -> float:
        wrong = [(model(u[v == each]).argmax(1) != each).float().mean().item() for each in range(10)]
        return sum(wrong) / 10

    return validating(run, conv.Net(), loader(*conv.data()[:2], size=32), check, 3)


@plant("A17", "encoder AdamW 2", decidable=75)
def heavy_dropout_in_validation(run: Run) -> Measure:
    """A transformer with dropout is validated every two epochs without eval()."""
    body = encoder.Encoder()
    model = nn.Sequential(nn.Dropout(0.3), body)
    u, v = encoder.data(600, 9)
    return validating(
        run, model, Shuffled(*encoder.data(), size=64), lambda model: (model(u).argmax(1) != v).float().mean().item(), 4
    )


@plant("A16", "conv SGD 2", onset=40)
def frozen_statistics(run: Run) -> Measure:
    """After a first stage on dim pictures the model stays in evaluation mode, with the statistics of dim pictures."""
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    x, y, u, v = conv.data()
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    dim = Shuffled(0.02 * x, y, size=32)
    model.train()
    for batch in doctor(endless(dim, 40)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        cross_entropy(model, (0.02 * u, v))
    model.train(not run.faulty)
    for batch in doctor(endless(Shuffled(x, y, size=32), 60)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: error_rate(model, u, v)
