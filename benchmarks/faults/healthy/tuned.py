"""Fine-tuning: parts are frozen, set free or added, and the start is good already."""

from typing import Any

import torch
from torch import Tensor, nn

from faults.case import Measure, Run, healthy
from faults.families import (
    conv,
    digits,
    gpt,
)
from faults.families.batches import Shuffled, endless
from faults.families.scores import cross_entropy, error_rate
from faults.loops import fit


def pretrained(model: nn.Module, batches: Any, steps: int = 90) -> nn.Module:
    """Return the model after some training that nobody watches."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in endless(batches, steps):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def odd_or_even(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the digits with another task: is it odd."""
    return x, y % 2


@healthy("conv Adam", "conv SGD", scary=True)
def head_on_a_frozen_trunk(run: Run) -> Measure:
    """A trained trunk is frozen, and a new head learns another task."""
    x, y, u, v = conv.data()
    model = pretrained(conv.Net(), Shuffled(x, y))
    model.requires_grad_(False)
    model.head = nn.Linear(96, 2)
    model.eval()
    optimizer = run.optimizer(model.head.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(Shuffled(*odd_or_even(x, y)), 90)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: error_rate(model, *odd_or_even(u, v))


@healthy("conv AdamW", scary=True)
def norms_frozen(run: Run) -> Measure:
    """Fine-tuning with batch norm in evaluation mode and everything else in training mode."""
    x, y, u, v = conv.data()
    model = pretrained(conv.Net(), Shuffled(x, y))
    model.head = nn.Linear(96, 2)
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 3)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(3):
        model.train()
        model.norm1.eval()
        model.norm2.eval()
        for batch in doctor(Shuffled(*odd_or_even(x, y))):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        error_rate(model, *odd_or_even(u, v))
    return lambda: error_rate(model, *odd_or_even(u, v))


@healthy("digits Adam", "digits SGD", scary=True)
def only_the_head_is_given(run: Run) -> Measure:
    """Only the head's parameters are given to the optimizer; the trained trunk is not frozen otherwise."""
    x, y, u, v = digits.data()
    model = pretrained(digits.mlp(), Shuffled(x, y))
    model[4] = nn.Linear(48, 2)
    optimizer = run.optimizer(model[4].parameters())
    fit(run, model, optimizer, train=Shuffled(*odd_or_even(x, y)), epochs=3)
    return lambda: error_rate(model, *odd_or_even(u, v))


class Adapted(nn.Module):
    """A frozen linear layer and two small matrices beside it, the second zero at first."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.into = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.out = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return what both say of x."""
        return self.layer(x) + x @ self.into.T @ self.out.T


@healthy("digits AdamW", "digits RMSprop", scary=True)
def low_rank_adapters(run: Run) -> Measure:
    """A trained model is frozen, and adapters of low rank learn inverted pictures."""
    x, y, u, v = digits.data()
    model = pretrained(digits.mlp(), Shuffled(x, y))
    for place in (0, 2, 4):
        model[place] = Adapted(model[place])
    optimizer = run.optimizer([each for each in model.parameters() if each.requires_grad], lr=2 * run.rate)
    fit(run, model, optimizer, train=Shuffled(-x, y))
    return lambda: error_rate(model, -u, v)


@healthy("gpt AdamW", scary=True)
def set_free_layer_by_layer(run: Run) -> Measure:
    """Blocks are frozen at first and set free from the top down."""
    model, train = gpt.Gpt(), run.task.train()
    model.blocks.requires_grad_(False)
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=gpt.next_letter)
    for step, batch in enumerate(doctor(endless(train, 150))):
        if step in (15, 30):
            model.blocks[1 if step == 15 else 0].requires_grad_()
        optimizer.zero_grad()
        gpt.next_letter(model, batch).backward()
        optimizer.step()
    return lambda: gpt.honest_loss(model)


@healthy("conv SGD", "digits AdamW", scary=True)
def goes_on_from_good_weights(run: Run) -> Measure:
    """Training goes on from weights that are good already: the loss begins far below that of a guess."""
    x, y, u, v = (conv if run.case.family == "conv" else digits).data()
    model = pretrained(run.task.model(), Shuffled(x, y), 60)
    fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 10), train=Shuffled(x, y), epochs=3)
    return lambda: cross_entropy(model.eval(), (u, v)).item()
