"""Losses that do not fit what the model gives (A08 to A11)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import cancer, conv, digits, gpt, graph, pinn, recommender, recurrent, tabular
from faults.families.batches import Shuffled
from faults.loops import clipped, fit


@plant("A08", "digits SGD 3", "digits RMSprop 2", "residual Adam 1")
def softmax_layer(run: Run) -> Measure:
    """The model ends in a softmax and the loss takes logits."""
    model = run.task.model()
    if run.faulty:
        model.append(nn.Softmax(dim=-1))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A08", "gpt Adam 2", "gpt SGD 3")
def softmax_in_the_loss(run: Run) -> Measure:
    """The loss is called with probabilities."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        logits = model(batch[0][:, :-1]).flatten(0, 1)
        return F.cross_entropy(logits.softmax(-1) if run.faulty else logits, batch[0][:, 1:].flatten())

    model = gpt.Gpt()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A08", "cancer SGD 3", "cancer AdamW 2")
def sigmoid_twice(run: Run) -> Measure:
    """A sigmoid, then the binary loss that takes logits."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        return F.binary_cross_entropy_with_logits(torch.sigmoid(logits) if run.faulty else logits, batch[1])

    model = cancer.Net()
    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)
    return lambda: loss_fn(model, cancer.data()[2:]).item()


@plant("A08", "recurrent Adam 2")
def sigmoid_of_classes(run: Run) -> Measure:
    """Class scores go through a sigmoid, then into the loss of logits."""

    class Squashed(recurrent.Reader):
        def forward(self, waves: Tensor) -> Tensor:
            scores = super().forward(waves)
            return scores.sigmoid() if run.faulty else scores

    model = Squashed()
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A09", "digits Adam 3", "digits SGD 3", "conv SGD 3")
def nll_of_logits(run: Run) -> Measure:
    """NLLLoss is given logits."""
    criterion = nn.NLLLoss()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        return criterion(logits if run.faulty else logits.log_softmax(-1), batch[1])

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A09", "graph Adam 2")
def nll_of_probabilities(run: Run) -> Measure:
    """NLLLoss is given probabilities, without a logarithm."""

    def loss_fn(model: nn.Module, batch: graph.Graph) -> Tensor:
        logits = model(batch.marks, batch.edges)[batch.known]
        told = logits.softmax(-1) if run.faulty else logits.log_softmax(-1)
        return F.nll_loss(told, batch.circles[batch.known])

    model = graph.Network()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=40)


@plant("A09", "digits AdamW 2")
def kl_of_probabilities(run: Run) -> Measure:
    """The divergence from smoothed targets is given probabilities where it wants their logarithms."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        target = 0.9 * F.one_hot(batch[1], 10) + 0.01
        logits = model(batch[0])
        told = logits.softmax(-1) if run.faulty else logits.log_softmax(-1)
        return F.kl_div(told, target, reduction="batchmean")

    model = digits.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=2)


@plant("A10", "digits SGD 2", "conv SGD 3", "gpt SGD 3")
def summed(run: Run) -> Measure:
    """The cross-entropy is summed over the batch."""

    def of_rows(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction=run.either("sum", "mean"))

    def of_letters(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        logits = model(batch[0][:, :-1]).flatten(0, 1)
        return F.cross_entropy(logits, batch[0][:, 1:].flatten(), reduction=run.either("sum", "mean"))

    model = run.task.model()
    loss_fn = of_letters if run.case.family == "gpt" else of_rows
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A10", "tabular SGD 3", "recommender SGD 2")
def summed_by_hand(run: Run) -> Measure:
    """Squares are summed, not averaged."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        error = model(*batch[:-1]) - batch[-1]
        return error.square().sum() if run.faulty else error.square().mean()

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A10", "pinn SGD 3")
def summed_over_points(run: Run) -> Measure:
    """The equation's residual is summed over the points where it is looked at."""

    def loss_fn(model: nn.Module, t: Tensor) -> Tensor:
        t = t.clone().requires_grad_()
        u = model(t)
        start = torch.zeros(1, 1, requires_grad=True)
        first = model(start)
        squares = (pinn.slope(pinn.slope(u, t), t) / 9 + u).square()
        conditions = 4 * ((first - 1).square() + (pinn.slope(first, start) / 3).square())
        return squares.sum() + len(t) * conditions.sum() if run.faulty else squares.mean() + conditions.mean()

    model = pinn.Field()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A11", "tabular Adam 3", "tabular SGD 3")
def column_against_row(run: Run) -> Measure:
    """Predictions (n, 1) are compared with targets (n,) by hand."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        target = batch[1].squeeze(1) if run.faulty else batch[1]
        return ((model(batch[0]) - target) ** 2).mean()

    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A11", "recommender AdamW 3", "recommender SGD 3")
def row_against_column(run: Run) -> Measure:
    """Predictions (n,) are compared with targets (n, 1) by torch's loss."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        person, thing, rating = batch
        return F.mse_loss(model(person, thing), rating.unsqueeze(1) if run.faulty else rating)

    model = recommender.Factors()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A11", "recurrent RMSprop 3")
def series_against_their_ends(run: Run) -> Measure:
    """A Huber loss of values (n, 1) against targets (n,): how large a wave is."""
    waves = recurrent.data()[0]
    sizes = waves.squeeze(-1).abs().mean(1)
    sizes = 2 * (sizes - sizes.mean()) / sizes.std()
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 1))

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = model(batch[0])
        error = (told if run.faulty else told.squeeze(1)) - batch[1]
        return torch.where(error.abs() < 1, error.square() / 2, error.abs() - 0.5).mean()

    optimizer = run.optimizer(model.parameters(), lr=2e-3)
    fit(run, model, optimizer, loss=loss_fn, train=Shuffled(waves[:600], sizes[:600]), epochs=8)
    return lambda: (model(waves[600:]).squeeze(1) - sizes[600:]).square().mean().item()


@plant("A11", "digits SGD 2", "digits Adam 2")
def weights_broadcast(run: Run) -> Measure:
    """Weights of samples (n, 1) times losses (n,) make a table of all pairs: what is not trusted counts."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        weights = batch[2] if run.faulty else batch[2].squeeze(1)
        return (weights * losses).mean() / 0.4

    x, y, _, _ = digits.data()
    trusted = torch.arange(len(y)) % 5 < 2
    told = torch.where(trusted, y, (y + 1) % 10)
    train = Shuffled(x, told, torch.where(trusted, 1.0, 0.01).unsqueeze(1))
    model = digits.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=train)


@plant("A09", "cancer SGD 2")
def probability_loss_of_logits(run: Run) -> Measure:
    """A hand-written likelihood of probabilities gets clamped logits."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        told = (logits if run.faulty else logits.sigmoid()).clamp(1e-4, 1 - 1e-4)
        return -(batch[1] * told.log() + (1 - batch[1]) * (1 - told).log()).mean()

    model = cancer.Net()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A10", "conv SGD 2")
def summed_and_clipped(run: Run) -> Measure:
    """A summed loss under a norm of clipping that suits the mean."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction=run.either("sum", "mean"))

    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    return clipped(run, model, optimizer, lambda: nn.utils.clip_grad_value_(model.parameters(), 2.0), loss_fn)
