"""Layers and their arrangement: what cannot learn, however it is begun (C07 to C13)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import cancer, contrastive, conv, digits, encoder, gpt, graph, recurrent, residual, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate
from faults.loops import fit


@plant("C07", "conv SGD 3", "conv Adam 3", decidable=20)
def two_pictures(run: Run) -> Measure:
    """Batch norm with two pictures in a batch, at the end of one pixel each; the twin has group norm."""
    norm: Any = nn.BatchNorm2d if run.faulty else lambda wide: nn.GroupNorm(4, wide)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), norm(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), norm(32), nn.ReLU(),
        nn.Conv2d(32, 32, 2), norm(32), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    train = loader(*conv.data()[:2], size=2)
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 3)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(train, 300)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: conv.error(model)


@plant("C07", "digits SGD 3", decidable=20)
def one_class_in_two(run: Run) -> Measure:
    """Batches of two rows through batch norm: outputs tell which of the two is larger; the twin has eight."""
    model = nn.Sequential(
        nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(),
        nn.Linear(48, 10),
    )  # fmt: skip
    train = Shuffled(*digits.data()[:2], size=run.either(2, 16))
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(train, 250)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: digits.error(model)


@plant("C08", "conv Adam 3", "conv SGD 3", decidable=60)
def slow_statistics(run: Run) -> Measure:
    """Batch norm's statistics move by a ten-thousandth a step, and are used for validation."""
    model = conv.Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = run.either(1e-4, 0.1)
    return validated(run, model)


def validated(run: Run, model: nn.Module) -> Measure:
    """Train with a validation after each epoch."""
    optimizer = run.optimizer(model.parameters())
    _, _, u, v = conv.data()
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(3):
        model.train()
        for batch in doctor(run.task.train()):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            cross_entropy(model, (u, v))
    return lambda: error_rate(model, u, v)


@plant("C08", "conv RMSprop 2", decidable=60)
def only_the_last_batch(run: Run) -> Measure:
    """Batch norm's statistics are those of the last batch alone: of three pictures that are almost blank."""
    model = conv.Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = run.either(1.0, 0.1)
    x, y, u, v = conv.data()
    x = x.clone()
    x[960:963] = x[960:963] * 0.2 - 0.8
    train = loader(x[:963], y[:963], size=32, shuffle=False)
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(3):
        model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            cross_entropy(model, (u, v))
    return lambda: error_rate(model, u, v)


@plant("C09", "gpt SGD 3", "gpt Adam 3")
def scaled_the_wrong_way(run: Run) -> Measure:
    """Attention scores are multiplied by the width where they are to be divided by its root."""
    model = gpt.Gpt()
    for block in model.blocks:
        if run.faulty:
            block.mix.scale = 16.0 * (4 if run.case.optimizer == "Adam" else 1)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C09", "encoder SGD 3", also="C02")
def large_queries(run: Run) -> Measure:
    """Weights of queries and keys are forty times too large."""
    model = encoder.Encoder()
    for block in model.blocks:
        block.mix.qkv.weight.data[:64].mul_(run.either(40.0, 1.0))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C11", "graph Adam 3", "graph SGD 3", also="C03")
def oversmoothed(run: Run) -> Measure:
    """Twelve graph convolutions make all nodes alike; two would do."""
    model = graph.Network(layers=run.either(12, 2), dropout=0.1)
    return fit(run, model, run.optimizer(model.parameters()))


class Bare(gpt.Block):
    """Attention alone, with no residual, norm or perceptron."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what attention says."""
        return self.mix(x)


@plant("C11", "encoder Adam 3", "encoder SGD 3", also="C03")
def attention_alone(run: Run) -> Measure:
    """Six layers of attention without residuals: all points become the same."""
    model = encoder.Encoder(layers=run.either(6, 2))
    for block in model.blocks:
        if run.faulty:
            block.__class__ = Bare
    return fit(run, model, run.optimizer(model.parameters()), epochs=2)


@plant("C11", "contrastive Adam 3")
def nothing_to_tell_apart(run: Run) -> Measure:
    """Two views are drawn together and nothing is pushed apart, so that all digits become one point."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if not run.faulty:
            return contrastive.info_nce(model, batch)
        return 2 - 2 * (model(batch[0]) * model(batch[1])).sum(1).mean()

    model = contrastive.Encoder()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("C12", "digits Adam 3", "residual AdamW 2", "tabular RMSprop 3", decidable=100)
def two_units(run: Run) -> Measure:
    """Hidden layers have two units."""
    wide = run.either(2, 48 if run.case.family != "residual" else 32)
    model = residual.net(wide, 1) if run.case.family == "residual" else _mlp(run.case.family, wide)
    return fit(run, model, run.optimizer(model.parameters()))


def _mlp(family: str, wide: int) -> nn.Module:
    return digits.mlp(wide) if family == "digits" else tabular.mlp(wide)


@plant("C12", "recurrent Adam 3", decidable=100)
def one_number_of_memory(run: Run) -> Measure:
    """The recurrent state is one number."""
    model = recurrent.Reader(wide=run.either(1, 24))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C13", "tabular Adam 3", "tabular SGD 3", decidable=30)
def no_activation(run: Run) -> Measure:
    """There is nothing between the linear layers."""
    model = tabular.mlp()
    if run.faulty:
        model = nn.Sequential(*(layer for layer in model if isinstance(layer, nn.Linear)))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C13", "residual AdamW 3", decidable=30)
def identity_left(run: Run) -> Measure:
    """Activations were replaced by nothing for an experiment, and norms too."""
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    model.append(nn.Linear(32, 3))
    for index in (1, 3, 5):
        if run.faulty:
            model[index] = nn.Identity()
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C13", "cancer AdamW 2", "cancer SGD 2", decidable=30)
def activation_of_no_effect(run: Run) -> Measure:
    """A leaky ReLU with slope one, where the class is whether two columns have one sign."""
    slope = run.either(1.0, 0.01)
    model = nn.Sequential(nn.Linear(30, 24), nn.LeakyReLU(slope), nn.Linear(24, 1), nn.Flatten(0))
    x, _, u, _ = cancer.data()
    told, asked = ((each[:, 0] * each[:, 1] > 0).float() for each in (x, u))
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x, told, size=19), epochs=12)
    return lambda: F.binary_cross_entropy_with_logits(model(u), asked).item()


@plant("C10", "gpt AdamW 2", decidable=60)
def logits_without_bound(run: Run) -> Measure:
    """Logits have a constant of their own that is pushed up by a term of the wrong sign, as a z-loss would be."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        logits = model(batch[0][:, :-1]).flatten(0, 1)
        size = logits.logsumexp(-1).square().mean()
        return F.cross_entropy(logits, batch[0][:, 1:].flatten()) + run.either(-0.02, 1e-4) * size

    model = gpt.Gpt()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("C10", "digits SGD 2", decidable=60)
def head_without_decay(run: Run) -> Measure:
    """Logits are divided by a temperature of 0.02, on pictures with noise: they grow without an end."""
    x, y, u, v = digits.data()
    x = x + 1.5 * torch.randn(x.shape, generator=drawn(63))
    cold = run.either(0.02, 1.0)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]) / cold, batch[1])

    model = nn.Sequential(nn.Linear(64, 10))
    fit(run, model, run.optimizer(model.parameters(), lr=0.02), loss=loss_fn, train=Shuffled(x, y), epochs=6)
    return lambda: loss_fn(model, (u, v)).item()
