"""What is computed of outputs and targets, and its gradient (A08 to A11, A14, A15)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import made, world
from faults.case import Measure, Run, plant


@plant("A08", "tones RMSprop 3")
def last_layer_is_a_softmax(run: Run) -> Measure:
    """The network ends in a softmax, for a loss that takes logits."""
    model = world(run).model()
    if run.faulty:
        model.append(nn.Softmax(dim=1))
    return train(run, model, made(run, model))


class _Sure(nets.Form):
    """Says probabilities."""

    def forward(self, number: Tensor, choice: Tensor) -> Tensor:
        return super().forward(number, choice).sigmoid()


@plant("A08", "clinic AdamW 2")
def sigmoid_and_then_logits(run: Run) -> Measure:
    """The model says probabilities, for a loss that takes logits."""
    model = run.either(_Sure, nets.Form)()
    return train(run, model, made(run, model))


@plant("A08", "cloze Adam 2")
def softmax_in_the_loss(run: Run) -> Measure:
    """Somebody made probabilities of the logits before cross_entropy."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        one, other = (batch["input_ids"], batch["labels"]) if isinstance(batch, dict) else batch
        logits = model(one).flatten(0, -2)
        return F.cross_entropy(logits.softmax(-1) if run.faulty else logits, other.flatten())

    model = here.model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A09", "spiral Adam 2")
def nll_of_logits(run: Run) -> Measure:
    """nll_loss of what is not yet a logarithm of probabilities."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        return F.nll_loss(run.either(logits, logits.log_softmax(1)), batch[1])

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A09", "tones SGD 2", also="A08")
def nll_of_probabilities(run: Run) -> Measure:
    """nll_loss of probabilities: the logarithm is missing."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        share = model(batch[0]).softmax(1)
        return F.nll_loss(run.either(share, share.log()), batch[1])

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A09", "counts Adam 3")
def rate_for_its_logarithm(run: Run) -> Measure:
    """The likelihood is told that it gets rates, and it gets logarithms of rates."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.poisson_nll_loss(model(batch[0]), batch[1], log_input=not run.faulty)

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A10", "radar SGD 3")
def sum_over_rows(run: Run) -> Measure:
    """The loss is a sum over rows, with the rate of a mean."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1], reduction=run.either("sum", "mean"))

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A10", "pulses SGD 3")
def sum_over_places(run: Run) -> Measure:
    """A sum over places, a mean over rows: written for one row, and never looked at again."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        each = F.binary_cross_entropy_with_logits(model(batch[0]), batch[1], reduction="none")
        return each.sum() / (2 if run.faulty else each.numel())

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


class _Column(nn.Module):
    """Says a column of numbers where a row of them is expected."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).unsqueeze(-1)


@plant("A11", "counts RMSprop 3")
def column_against_row(run: Run) -> Measure:
    """Outputs (rows, 1) meet targets (rows,) in a loss written by hand."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told, true = model(batch[0]), batch[1]
        if not run.faulty:
            told = told.squeeze(-1)
        gap = told.exp() - true * told if run.case.family == "counts" else (told - true).abs()
        return gap.mean()

    model = _Column(here.model())
    train(run, model, made(run, model), loss=loss_fn)
    return lambda: here.measure(model.body)


@plant("A11", "lifetimes Adam 3")
def times_as_a_column(run: Run) -> Measure:
    """Times come from the file as a column, and the loss does not mind."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, time, seen = batch
        return here.loss(model, (x, time.unsqueeze(1) if run.faulty else time, seen))

    model = here.model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A14", "inverse Adam 3")
def likelihood_without_its_minus(run: Run) -> Measure:
    """The likelihood is made small."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return here.loss(model, batch) * run.either(-1, 1)

    model = here.model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("A14", "twins AdamW 3", "cloze SGD 2")
def optimizer_that_maximises(run: Run) -> Measure:
    """The optimizer was copied from where a reward was made large."""
    model = world(run).model()
    return train(run, model, made(run, model, maximize=run.faulty))


class _Swish(torch.autograd.Function):
    """x times its sigmoid, with a derivative that lacks a term, or all of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, whole: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.whole = whole
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return grad * (gate + x * gate * (1 - gate) if ctx.whole else x * (1 - gate)), None


class _Handmade(nets.Rate):
    """Uses the function above."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        h = _Swish.apply(self.one(x), self.whole)
        return self.out(_Swish.apply(self.two(h), self.whole)).squeeze(-1)


@plant("A15", "counts SGD 3")
def derivative_lacks_a_term(run: Run) -> Measure:
    """An activation of one's own, whose derivative was worked out wrongly."""
    model = _Handmade(not run.faulty)
    return train(run, model, made(run, model))


class _Gate(torch.autograd.Function):
    """A mean over time; its gradient goes to the first place only, or to all."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, whole: bool) -> Tensor:
        ctx.size, ctx.whole = h.shape, whole
        return h.mean(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        spread = grad.unsqueeze(-1).expand(ctx.size) / ctx.size[-1]
        return (spread if ctx.whole else -spread * (torch.arange(ctx.size[-1]) % 2)), None


class _Pooled(nn.Module):
    """Waves, pooled by the function above."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.conv, self.mid, self.fc = nn.Conv1d(1, 16, 7), nn.Conv1d(16, 16, 5), nn.Linear(16, 5)
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(_Gate.apply(F.relu(self.mid(F.relu(self.conv(x)))), self.whole))


@plant("A15", "tones Adam 3")
def pooling_sends_it_elsewhere(run: Run) -> Measure:
    """A pooling of one's own gives gradients the wrong sign and place."""
    model = _Pooled(not run.faulty)
    return train(run, model, made(run, model), epochs=8)
