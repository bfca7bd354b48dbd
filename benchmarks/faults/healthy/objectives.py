"""Losses that are negative, have a floor, change, or stop gradients, as they are meant to."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, healthy
from faults.families import autoencoder, contrastive, conv, digits, flow, gpt, recurrent, residual, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import fit


class Reversed(torch.autograd.Function):
    """Lets values through and turns gradients round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: D102
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: D102
        return -0.3 * grad


@healthy("digits Adam", "digits AdamW", scary=True)
def gradients_reversed_on_purpose(run: Run) -> Measure:
    """Features are not to tell whether a picture was dimmed: gradients of that head are turned round."""

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        dimmed = torch.arange(len(x)) % 2
        hidden = model[:4](torch.where(dimmed.bool().unsqueeze(1), 0.7 * x - 0.3, x))
        return F.cross_entropy(model[4](hidden), y) + F.cross_entropy(model.domain(Reversed.apply(hidden)), dimmed)

    model = digits.mlp()
    model.domain = nn.Linear(48, 2)
    model.forward = lambda x: model[4](model[:4](x))  # type: ignore[method-assign]
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 124)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: error_rate(model, *digits.data()[2:])


@healthy("contrastive Adam", "contrastive SGD", scary=True)
def gradients_stopped_on_one_side(run: Run) -> Measure:
    """Two views predict each other through a predictor, and the other side's gradient is stopped."""
    model = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32)
    )  # fmt: skip
    model.add_module("predictor", nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32)))

    def features(model: Any, x: Tensor) -> Tensor:
        return model[:5](x)

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        one, other = features(model, batch[0]), features(model, batch[1])
        first = F.cosine_similarity(model.predictor(one), other.detach()).mean()
        second = F.cosine_similarity(model.predictor(other), one.detach()).mean()
        return -(first + second) / 2

    x, _, u, _ = digits.data()
    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=contrastive.Views(x))

    @torch.no_grad()
    def error() -> float:
        model.eval()
        with torch.random.fork_rng(devices=[]):
            return loss_fn(model, contrastive.views(u)).item()

    return error


class Rounded(nn.Module):
    """An autoencoder whose code is rounded to -1 or 1; gradients go straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(64, 24), nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels -> pixels."""
        code = self.into(x).tanh()
        return self.out(code + (code.sign() - code).detach())


@healthy("autoencoder Adam", "autoencoder RMSprop", scary=True)
def straight_through(run: Run) -> Measure:
    """What is rounded has a gradient as if it were not."""
    x, u = autoencoder.data()
    model = Rounded()
    rate = run.rate / 2
    fit(run, model, run.optimizer(model.parameters(), lr=rate), loss=against_itself, train=Shuffled(x))
    return lambda: against_itself(model, (u,)).item()


def against_itself(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the mean squared error of what a model makes of its input."""
    return F.mse_loss(model(batch[0]), batch[0])


@healthy("conv Adam", "gpt SGD", scary=True)
def smoothed_labels(run: Run) -> Measure:
    """Label smoothing puts a floor under the loss."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        if run.case.family == "gpt":
            logits, target = model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten()
        else:
            logits, target = model(batch[0]), batch[1]
        return F.cross_entropy(logits, target, label_smoothing=0.3)

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@healthy("residual AdamW", "tabular Adam", "residual SGD", scary=True)
def noise_that_cannot_be_learned(run: Run) -> Measure:
    """Classes overlap, so that a third of the rows is told wrongly by the best there is."""
    centres = torch.tensor([[0.0, 0.0], [1.2, 0.0], [0.0, 1.2]])
    y = torch.randint(3, (3000,), generator=drawn(96))
    x = centres[y] + torch.randn(3000, 2, generator=drawn(97))
    model: nn.Module = residual.net(layers=1)
    if run.case.family == "tabular":
        model = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 2)
    fit(run, model, optimizer, loss=cross_entropy, train=Shuffled(x[:2000], y[:2000]), epochs=3)
    return lambda: error_rate(model, x[2000:], y[2000:])


@healthy("flow Adam", scary=True)
def loss_that_crosses_zero(run: Run) -> Measure:
    """A likelihood of narrow data goes from positive to far below zero."""

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        return flow.likelihood(model, 0.3 * batch)

    model = flow.Flow()
    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)
    return lambda: loss_fn(model, flow.data(1000, 16)).item()


@healthy("tabular AdamW", "tabular SGD", scary=True)
def variance_learned(run: Run) -> Measure:
    """A mean and a variance are learned together, by a likelihood that becomes negative."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        mean, spread = model(batch[0]).chunk(2, dim=1)
        return F.gaussian_nll_loss(mean, batch[1] / 4, F.softplus(spread) + 1e-3)

    model = tabular.mlp()
    model[-1] = nn.Linear(48, 2)
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 4)
    fit(run, model, optimizer, loss=loss_fn)
    return lambda: loss_fn(model, tabular.data(800, 13)).item()


@healthy("digits Adam", "conv SGD", scary=True)
def two_tasks_in_turn(run: Run) -> Measure:
    """Odd batches learn the digit and even ones whether it is even: the loss jumps to and fro."""
    model, train = run.task.model(), run.task.train()
    turn = [0]

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        if turn[0] % 2:
            even = logits[:, ::2].logsumexp(1) - logits[:, 1::2].logsumexp(1)
            return F.binary_cross_entropy_with_logits(even, (batch[1] % 2 == 0).float())
        return F.cross_entropy(logits, batch[1])

    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(endless(train, 120))):
        turn[0] = step
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@healthy("gpt Adam", scary=True)
def words_masked(run: Run) -> Measure:
    """A model that sees all of a text fills in letters that are hidden from it."""
    model = gpt.Gpt(causal=False)

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        text = batch[0][:, 1:]
        hidden = torch.rand(text.shape) < 0.15
        logits = model(torch.where(hidden, 0, text))
        return F.cross_entropy(logits[hidden], text[hidden])

    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=7)

    @torch.no_grad()
    def error() -> float:
        with torch.random.fork_rng(devices=[]):
            return loss_fn(model.eval(), (gpt.data(100, 7),)).item()

    return error


@healthy("recurrent SGD", "recurrent Adam", scary=True)
def state_cut_in_pieces(run: Run) -> Measure:
    """The state of a long series is carried on, and detached between pieces."""
    model = nn.GRU(1, 16, batch_first=True)
    model.add_module("head", nn.Linear(16, 1))
    t = torch.arange(1201) / 4
    series = (t.sin() + 0.5 * (2.3 * t).sin() + 0.05 * torch.randn(1201, generator=drawn(98)))[None, :, None]
    kept: list[Tensor | None] = [None]

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        states, last = model(batch[0], kept[0])
        kept[0] = last.detach()
        return F.mse_loss(model.head(states), batch[1])

    optimizer = run.optimizer(model.parameters(), lr=run.rate / 2)
    pieces = [(series[:, i : i + 12], series[:, i + 1 : i + 13]) for i in range(0, 1200, 12)]
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(2):
        kept[0] = None
        for piece in doctor(pieces):
            optimizer.zero_grad()
            loss_fn(model, piece).backward()
            optimizer.step()
    return lambda: sum(loss_fn(model, piece).item() for piece in pieces[-20:]) / 20


@healthy("conv Adam", "conv SGD", scary=True)
def head_that_only_looks(run: Run) -> Measure:
    """A probe reads detached features, beside the real head: its loss is added, and no gradient goes through."""
    model = conv.Net()
    model.add_module("probe", nn.Linear(96, 2))

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        hidden = model.features(batch[0])
        return F.cross_entropy(model.head(hidden), batch[1]) + F.cross_entropy(
            model.probe(hidden.detach()), batch[1] % 2
        )

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@healthy("digits SGD", scary=True)
def mixed_pictures(run: Run) -> Measure:
    """Pictures and their labels are mixed in pairs within a batch, so that the loss stays high."""
    model = digits.mlp()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        part, order = torch.rand(len(x), 1), torch.randperm(len(x))
        soft = F.one_hot(y, 10).float()
        return F.cross_entropy(model(part * x + (1 - part) * x[order]), part * soft + (1 - part) * soft[order])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=6)


@healthy("residual Adam", scary=True)
def log_softmax_twice(run: Run) -> Measure:
    """The model ends in a log-softmax and the loss has one too, which changes nothing."""
    model = residual.net().append(nn.LogSoftmax(dim=-1))
    return fit(run, model, run.optimizer(model.parameters()))


@healthy("digits AdamW", scary=True)
def targets_of_a_teacher(run: Run) -> Measure:
    """A trained teacher, frozen only by no_grad, says what is to be learned; the entropy is a floor."""
    teacher, train = digits.mlp(96), run.task.train()
    first = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for batch in endless(train, 90):
        first.zero_grad()
        cross_entropy(teacher, batch).backward()
        first.step()
    teacher.zero_grad()
    model = digits.mlp(24)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            told = (teacher(batch[0]) / 3).softmax(-1)
        return F.cross_entropy(model(batch[0]) / 3, told)

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@healthy("tabular Adam", scary=True)
def robust_to_outliers(run: Run) -> Measure:
    """Three targets are far out, and the loss is made for that."""
    x, y = tabular.data()
    y = y.clone()
    y[[100, 500, 900]] = 500.0

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.smooth_l1_loss(model(batch[0]), batch[1])

    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=loader(x, y))


@healthy("tabular SGD", scary=True)
def squared_of_nothing_missing(run: Run) -> Measure:
    """Missing values, which are not numbers, are put aside safely before anything is computed."""
    x, y = (each.clone() for each in tabular.data())
    x[::7, 5] = float("nan")

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return squared(model, (batch[0].nan_to_num(), batch[1]))

    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=loader(x, y))


@healthy("recurrent Adam", scary=True)
def classes_of_positive_scores(run: Run) -> Measure:
    """Scores end in a ReLU of large scale before the loss of logits: they are positive, and no probabilities."""
    model = recurrent.Reader()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(F.softplus(model(batch[0])), batch[1])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)
