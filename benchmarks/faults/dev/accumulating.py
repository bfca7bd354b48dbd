"""Gradients of several micro-batches, put together wrongly (A12, A13)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import conv, digits, gpt, tabular
from faults.families.batches import Shuffled, drawn, endless
from faults.families.scores import cross_entropy, squared


@plant("A12", "digits SGD 3", "tabular SGD 2")
def not_divided(run: Run) -> Measure:
    """Eight small batches make a step, and their losses are not divided by eight."""
    model, loss_fn = run.task.model(), run.task.loss
    train = Shuffled(*(digits.data()[:2] if run.case.family == "digits" else tabular.data()), size=8)
    optimizer = run.optimizer(model.parameters(), lr=2 * run.rate)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    optimizer.zero_grad()
    for index, batch in enumerate(doctor(endless(train, 480))):
        loss = loss_fn(model, batch)
        (loss if run.faulty else loss / 8).backward()
        if (index + 1) % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: run.task.measure(model)


@plant("A12", "gpt SGD 1", "gpt SGD 3", "gpt SGD 2")
def within_a_batch(run: Run) -> Measure:
    """A batch is cut into pieces for lack of memory, and their mean losses are added up."""
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters(), lr=0.4)
    pieces = run.pick(2, 4, 8)

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return gpt.next_letter(model, batch)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for (text,) in doctor(endless(Shuffled(gpt.data(), size=16), 150)):
        optimizer.zero_grad()
        for piece in text.chunk(pieces):
            loss = loss_fn(model, (piece,))
            (loss if run.faulty else loss / pieces).backward()
        optimizer.step()
    return lambda: gpt.honest_loss(model)


@plant("A12", "conv SGD 3")
def divided_by_the_wrong_number(run: Run) -> Measure:
    """Losses are divided by the number of micro-batches that an older version had, one."""
    model, accumulate = conv.Net(), 6
    divisor = run.either(1, accumulate)
    optimizer = run.optimizer(model.parameters(), lr=0.08)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(4):
        for index, batch in enumerate(doctor(Shuffled(*conv.data()[:2], size=10))):
            loss = cross_entropy(model, batch) / divisor
            loss.backward()
            if index % accumulate == accumulate - 1:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    return lambda: conv.error(model)


@plant("A13", "tabular SGD 2", "tabular Adam 2")
def mean_of_means(run: Run) -> Measure:
    """Micro-batches of very different length count alike: the short ones hold what is noisy."""
    x, y = tabular.data()
    noisy = y + 6 * torch.randn(y.shape, generator=drawn(31)).abs()
    model = tabular.mlp()
    optimizer = run.optimizer(model.parameters())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return squared(model, batch)

    def pieces() -> Any:
        while True:
            for rows in torch.randperm(len(x)).split(40):
                yield x[rows], y[rows]
                yield x[rows[:4]], noisy[rows[:4]]

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for index, batch in enumerate(doctor(endless(pieces(), 360))):
        part = 0.5 if run.faulty else len(batch[0]) / 44
        (loss_fn(model, batch) * part).backward()
        if index % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: tabular.error(model)


@plant("A13", "gpt Adam 2")
def mean_over_tokens(run: Run) -> Measure:
    """Texts are padded; each micro-batch's mean is over its own letters, and short texts are another language."""
    text = gpt.data()
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        letters, kept = batch
        losses = F.cross_entropy(model(letters[:, :-1]).transpose(1, 2), letters[:, 1:], reduction="none")
        return (losses * kept).sum() / kept.sum()

    def pieces() -> Any:
        full, short = torch.ones(8, gpt.LONG), torch.zeros(8, gpt.LONG)
        short[:, 2:4] = 1.0
        while True:
            for rows in torch.randperm(len(text)).split(8):
                yield text[rows], full
                yield (text[rows] + 3) % gpt.LETTERS, short

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for index, batch in enumerate(doctor(endless(pieces(), 240))):
        part = 0.5 if run.faulty else float(batch[1].sum() / (8 * (gpt.LONG + 2)))
        (loss_fn(model, batch) * part).backward()
        if index % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: early_letters(model)


@torch.no_grad()
def early_letters(model: nn.Module) -> float:
    """Return the loss of letters that come early in a text, where short texts were trained on as well."""
    model.eval()
    text = gpt.data(100, 7)
    return F.cross_entropy(model(text[:, :5])[:, 2:].flatten(0, 1), text[:, 3:6].flatten()).item()
