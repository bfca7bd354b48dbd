"""Weights and layers that cannot learn as they are set up (C)."""

import torch
from torch import nn

from faults.case import Measure, Run, plant
from faults.families import (
    autoencoder,
    conv,
    gpt,
    recurrent,
    tabular,
)
from faults.families.batches import endless
from faults.loops import fit


def linears(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers, in order."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@plant("C01", "digits SGD 3", "tabular Adam 2", "cancer RMSprop 1")
def constant(run: Run) -> Measure:
    """All weights are the same number."""
    model = run.task.model()
    for layer in linears(model):
        if run.faulty:
            nn.init.constant_(layer.weight, 0.05)
            nn.init.zeros_(layer.bias)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C01", "recurrent Adam 3", "residual SGD 3")
def zeros(run: Run) -> Measure:
    """All weights are zero."""
    model = run.task.model()
    for name, parameter in model.named_parameters():
        if run.faulty and parameter.dim() > 1 and "norm" not in name:
            nn.init.zeros_(parameter)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C01", "conv AdamW 3")
def copies_of_a_row(run: Run) -> Measure:
    """Filters are loaded from one filter, repeated."""
    model = conv.Net()
    for layer in (model.first, model.second):
        if run.faulty:
            layer.weight.data[:] = layer.weight.data[:1].clone()
            layer.bias.data.zero_()
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C02", "digits RMSprop 1", "tabular SGD 1", "digits SGD 3", "digits Adam 2", "tabular RMSprop 3", "flow Adam 3")
def too_wide(run: Run) -> Measure:
    """Weights are drawn with unit spread, whatever the number of inputs."""
    model = run.task.model()
    for layer in linears(model):
        if run.faulty:
            nn.init.normal_(layer.weight, std=run.pick(0.7, 1.0, 2.0))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C02", "gpt Adam 3")
def embeddings_too_large(run: Run) -> Measure:
    """The head is tied to embeddings of spread 8."""
    model = gpt.Gpt()
    if run.faulty:
        nn.init.normal_(model.head.weight, std=8.0)
        nn.init.normal_(model.letters.weight, std=8.0)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C02", "autoencoder SGD 3")
def wrong_fan(run: Run) -> Measure:
    """Weights are drawn uniformly from -1 to 1."""
    model = autoencoder.Vae()
    for layer in linears(model):
        if run.faulty:
            nn.init.uniform_(layer.weight, -1, 1)
    return fit(run, model, run.optimizer(model.parameters()))


def deep(width: int, layers: int, unit: type[nn.Module], sizes: tuple[int, int] = (64, 10)) -> nn.Sequential:
    """Return a deep plain perceptron."""
    inner = [layer for _ in range(layers) for layer in (nn.Linear(width, width), unit())]
    return nn.Sequential(nn.Linear(sizes[0], width), unit(), *inner, nn.Linear(width, sizes[1]))


@plant("C03", "digits RMSprop 1", "digits SGD 3", "digits Adam 2")
def small_weights(run: Run) -> Measure:
    """A deep tanh network whose weights have a spread of 0.01."""
    model = deep(32, run.pick(3, 5, 8), nn.Tanh)
    for layer in linears(model):
        nn.init.normal_(layer.weight, std=0.01 if run.faulty else 32**-0.5)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C03", "tabular SGD 3", "cancer SGD 3")
def sigmoids_in_depth(run: Run) -> Measure:
    """Ten layers of sigmoids, whose slope is a quarter at most, where tanh was meant."""
    sizes = (tabular.COLUMNS, 1) if run.case.family == "tabular" else (30, 1)
    model = deep(24, 6, nn.Sigmoid if run.faulty else nn.Tanh, sizes)
    if run.case.family == "cancer":
        model.append(nn.Flatten(0))
    for layer in linears(model):
        nn.init.xavier_uniform_(layer.weight)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C03", "conv Adam 2")
def plain_and_deep(run: Run) -> Measure:
    """A plain convolutional stack with weights a fifth of their proper size and no norm."""
    layers: list[nn.Module] = []
    for before in (1, *[10] * 6):
        layers += [nn.Conv2d(before, 10, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(160, 10))
    for layer in model[:-1]:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(run.either(0.2, 1.0))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C04", "recurrent Adam 3", "recurrent RMSprop 2")
def recurrent_weights_doubled(run: Run) -> Measure:
    """Recurrent weights of a plain ReLU net are three times an orthogonal matrix."""
    model = recurrent.Reader(layer=nn.RNN)
    model.layer = nn.RNN(1, 24, batch_first=True, nonlinearity="relu")
    nn.init.orthogonal_(model.layer.weight_hh_l0)
    model.layer.weight_hh_l0.data.mul_(run.either(3.0, 1.0))
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 10))


@plant("C04", "digits SGD 3", "digits AdamW 2", also="C02")
def gain_in_depth(run: Run) -> Measure:
    """Twelve ReLU layers with a gain of 2.5 each, where the square root of 2 keeps the size."""
    model = deep(32, 12, nn.ReLU)
    for layer in linears(model)[:-1]:
        nn.init.normal_(layer.weight, std=run.either(2.5, 2**0.5) * layer.in_features**-0.5)
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 5))


@plant("C05", "digits Adam 3", "tabular SGD 3", "conv SGD 3")
def biases_below(run: Run) -> Measure:
    """Biases begin at -10, so that no ReLU of a layer is ever active."""
    model = run.task.model()
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    if run.faulty:
        inner = model.norm2 if run.case.family == "conv" else layers[1]
        nn.init.constant_(inner.bias, -10.0)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C05", "digits SGD 3", "tabular Adam 2", also="D01", onset=40, decidable=45)
def killed_by_a_jump(run: Run) -> Measure:
    """One step at a rate that is far too high kills the units."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(endless(train, 140))):
        jump = 300 if run.case.optimizer == "SGD" else 600
        optimizer.param_groups[0]["lr"] = run.rate * (jump if step == 40 and run.faulty else 1)
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("C05", "autoencoder AdamW 2", onset=60, decidable=60)
def biases_lowered(run: Run) -> Measure:
    """A sparsity hack lowers the biases of the decoder by ten in mid-run."""
    model = autoencoder.Vae()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=autoencoder.bound)
    for step, batch in enumerate(doctor(endless(run.task.train(), 150))):
        if step == 60 and run.faulty:
            with torch.no_grad():
                model.decoder[0].bias -= 10
        optimizer.zero_grad()
        autoencoder.bound(model, batch).backward()
        optimizer.step()
    return lambda: autoencoder.error(model)


@plant("C06", "cancer SGD 3", "cancer Adam 2", "pinn Adam 2")
def saturated(run: Run) -> Measure:
    """Weights before tanh are so large that it is at its ends."""
    model = run.task.model()
    for layer in linears(model)[:-1]:
        layer.weight.data.mul_(run.either(30.0, 1.0))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C06", "recurrent Adam 3")
def gates_shut(run: Run) -> Measure:
    """Biases of an LSTM's gates and cells are so large that all of them are at an end."""
    model = recurrent.Reader(layer=nn.LSTM)
    if run.faulty:
        nn.init.constant_(model.layer.bias_ih_l0, -14.0)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("C06", "digits RMSprop 3")
def sigmoids_at_their_ends(run: Run) -> Measure:
    """Hidden sigmoids with weights of spread 5."""
    model = nn.Sequential(nn.Linear(64, 48), nn.Sigmoid(), nn.Linear(48, 48), nn.Sigmoid(), nn.Linear(48, 10))
    for layer in linears(model)[:-1]:
        nn.init.normal_(layer.weight, std=run.either(5.0, 0.2))
    return fit(run, model, run.optimizer(model.parameters()))
