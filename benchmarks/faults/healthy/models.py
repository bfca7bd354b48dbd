"""Models that tie, drop, rest or begin at zero, and numbers of low precision, as they are meant to."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from faults.case import Measure, Run, healthy
from faults.families import (
    autoencoder,
    cancer,
    conv,
    digits,
    gpt,
    graph,
    recommender,
    recurrent,
    tabular,
)
from faults.families.batches import Shuffled, drawn, endless
from faults.families.scores import cross_entropy, squared
from faults.loops import fit


@healthy("gpt Adam", "gpt SGD", scary=True)
def tied(run: Run) -> Measure:
    """The head's weights are the embeddings'."""
    model = gpt.Gpt()
    model.letters.weight.data.mul_(0.2)
    model.head.weight = model.letters.weight
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("digits Adam", "conv SGD", scary=True)
def dropout(run: Run) -> Measure:
    """Half of the units are dropped, so that validation looks better than training."""
    model: nn.Module = nn.Sequential(
        nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 10)
    )  # fmt: skip
    if run.case.family == "conv":
        model = conv.Net()
        model.head = nn.Sequential(nn.Dropout(0.5), model.head)
    optimizer, train = run.optimizer(model.parameters()), run.task.train()
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(run.task.epochs):
        model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            run.task.measure(model)
    return lambda: run.task.measure(model)


@healthy("tabular Adam", "residual SGD", scary=True)
def evaluation_mode_of_no_effect(run: Run) -> Measure:
    """The model is in evaluation mode throughout, and has nothing in it that would care."""
    model = run.task.model().eval()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for batch in doctor(endless(run.task.train(), 150)):
        optimizer.zero_grad()
        run.task.loss(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


class Zeroed(nn.Module):
    """A residual branch with a factor that begins at zero."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.part = inner, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x and part of the branch."""
        return x + self.part * self.inner(x)


@healthy("residual Adam", "residual AdamW", scary=True)
def branches_begin_at_nothing(run: Run) -> Measure:
    """Twelve branches have a factor of zero at first, so that their weights get no gradient in the first step."""
    layers = (Zeroed(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))) for _ in range(12))
    model = nn.Sequential(nn.Linear(2, 32), *layers, nn.Linear(32, 3))
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("conv Adam", "digits SGD", scary=True)
def head_begins_at_zero(run: Run) -> Measure:
    """The last layer is zero at first, so that the first loss is exactly that of a guess."""
    model = run.task.model()
    last = model.head if run.case.family == "conv" else model[4]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("digits Adam", "autoencoder Adam", scary=True)
def most_units_rest(run: Run) -> Measure:
    """Only the eight largest of ninety-six units speak for a row; over rows, all of them do."""

    class Few(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            least = x.topk(8, dim=-1).values[..., -1:]
            return torch.relu(x) * (x >= least)

    if run.case.family == "digits":
        model: nn.Module = nn.Sequential(nn.Linear(64, 96), Few(), nn.Linear(96, 10))
        return fit(run, model, run.optimizer(model.parameters()))
    x, u = autoencoder.data()
    model = nn.Sequential(nn.Linear(64, 96), Few(), nn.Linear(96, 64))

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[0])

    fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 2), loss=loss_fn, train=Shuffled(x))
    return lambda: loss_fn(model, (u,)).item()


@healthy("cancer SGD", "cancer RMSprop", "tabular SGD", scary=True)
def linear(run: Run) -> Measure:
    """A linear model is what is wanted."""
    if run.case.family == "cancer":
        model = nn.Sequential(nn.Linear(30, 1), nn.Flatten(0))
        return fit(run, model, run.optimizer(model.parameters()))
    x, u = tabular.data()[0], tabular.data(800, 13)[0]
    y, v = (each @ torch.linspace(-1, 1, 10).unsqueeze(1) + 0.5 * each[:, :1].sign() for each in (x, u))
    line = nn.Linear(10, 1)
    fit(run, line, run.optimizer(line.parameters()), train=Shuffled(x, y))
    return lambda: squared(line, (u, v)).item()


@healthy("autoencoder AdamW", scary=True)
def linear_bottleneck(run: Run) -> Measure:
    """An autoencoder without activations: principal components."""
    x, u = autoencoder.data()
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64))

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[0])

    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=Shuffled(x))
    return lambda: loss_fn(model, (u,)).item()


@healthy("residual SGD", "gpt AdamW", scary=True)
def layers_left_out_by_chance(run: Run) -> Measure:
    """A quarter of the branches is left out in each step, so that their gradients are none."""

    class Sometimes(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.rand(()) < 0.25:
                return x
            return self.inner(x)

    model = run.task.model()
    if run.case.family == "gpt":
        model.blocks = nn.ModuleList(Sometimes(block) for block in model.blocks)
    else:
        for place in range(1, len(model) - 2):
            model[place] = Sometimes(model[place])
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("residual AdamW", "encoder Adam", scary=True)
def computed_twice(run: Run) -> Measure:
    """Activations are forgotten and computed again in the backward pass."""

    class Forgetful(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    model = run.task.model()
    if run.case.family == "encoder":
        model.blocks = nn.Sequential(*(Forgetful(block) for block in model.blocks))
    else:
        for place in range(1, len(model) - 2):
            model[place] = Forgetful(model[place])
    return fit(run, model, run.optimizer(model.parameters()), epochs=2)


@healthy("digits SGD", "tabular Adam", scary=True)
def weights_behind_parametrizations(run: Run) -> Measure:
    """Weights are normalised: what is trained is their length and direction, or divided by the largest stretch."""
    model = run.task.model()
    for place in (0, 2):
        make = parametrizations.weight_norm if run.case.family == "digits" else parametrizations.spectral_norm
        make(model[place])
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("gpt AdamW", "encoder SGD", scary=True)
def bfloat16(run: Run) -> Measure:
    """The forward pass runs in bfloat16 where autocast thinks fit."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run.task.loss(model, batch)

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=2 if run.case.family != "gpt" else 4)


@healthy("digits Adam", "digits SGD", scary=True)
def scaler_that_finds_its_scale(run: Run) -> Measure:
    """A scaler begins far too high and skips the first steps, until its scale is right."""
    model, train = digits.mlp(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return cross_entropy(model, batch)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 130)):
        optimizer.zero_grad()
        scaler.scale(loss_fn(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
    return lambda: digits.error(model)


@healthy("recommender SGD", "recommender RMSprop", scary=True)
def rows_that_are_not_touched(run: Run) -> Measure:
    """Embeddings of five thousand things, of which few ever come: most have no gradient."""
    model = recommender.Factors()
    model.thing = nn.Embedding(5000, 8)
    nn.init.normal_(model.thing.weight, std=0.3)
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("digits Adam", "tabular Adam", scary=True)
def few_rows_by_heart(run: Run) -> Measure:
    """A first try: a handful of rows is learned by heart, as a model should be able to."""
    data = [each[:32] for each in (digits.data() if run.case.family == "digits" else tabular.data())[:2]]
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(*data, size=16), epochs=60)
    return lambda: run.task.loss(model, data).item()


@healthy("graph AdamW", "graph SGD", scary=True)
def shared_and_copied(run: Run) -> Measure:
    """One layer is used twice, and an old copy of the model is kept inside it for comparison, without training."""
    model = graph.Network(layers=3)
    model.layers[1] = nn.Linear(24, 24)
    model.layers.insert(2, model.layers[1])
    fixed = copy.deepcopy(model)
    model.old = [fixed.requires_grad_(False)]
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("recurrent SGD", "recurrent Adam", scary=True)
def orthogonal_and_clipped(run: Run) -> Measure:
    """A plain recurrent net with orthogonal weights, whose gradients are clipped now and then."""
    model = recurrent.Reader(layer=nn.RNN)
    nn.init.orthogonal_(model.layer.weight_hh_l0)
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 3)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(run.task.train(), 150)):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return lambda: recurrent.error(model)


@healthy("tabular SGD", scary=True)
def raw_columns_through_a_norm(run: Run) -> Measure:
    """Columns of any size, which a first batch norm takes care of."""
    sizes = torch.logspace(-3, 4, tabular.COLUMNS)
    (x, y), (u, v) = tabular.data(), tabular.data(800, 13)
    model = nn.Sequential(nn.BatchNorm1d(tabular.COLUMNS), *tabular.mlp())
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x * sizes, y))
    return lambda: squared(model.eval(), (u * sizes, v)).item()


@healthy("encoder AdamW", scary=True)
def compares_rows_of_a_batch(run: Run) -> Measure:
    """Loss and model look at all rows of a batch together, as a set: which of them is the largest."""
    draw = drawn(99)
    x = torch.randn(4000, 6, generator=draw)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        sets = batch[0].view(-1, 8, 6)
        return F.cross_entropy(model(sets).squeeze(-1), sets.square().sum(-1).argmax(1))

    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=Shuffled(x[:3200], size=80), epochs=4)
    return lambda: loss_fn(model, (x[3200:],)).item()


@healthy("digits RMSprop", scary=True)
def forward_pass_with_noise(run: Run) -> Measure:
    """Noise is added to hidden values in training."""
    model = digits.mlp()

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        hidden = model[:4](batch[0])
        return F.cross_entropy(model[4](hidden + 0.3 * torch.randn_like(hidden)), batch[1])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@healthy("cancer Adam", scary=True)
def parameter_without_use(run: Run) -> Measure:
    """A bias of no use, since another follows it, and a head for a task that these data do not have."""
    model = cancer.Net()
    model.other = nn.Linear(16, 4)
    return fit(run, model, run.optimizer(model.parameters()))
