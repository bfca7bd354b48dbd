"""Gradients that are cut, reversed, wrong, or that carry a graph along (A07, A14, A15, A22)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import cancer, digits, flow, gpt, graph, recurrent, tabular
from faults.families.batches import Shuffled, endless
from faults.families.scores import cross_entropy, squared
from faults.loops import fit


class Cut(nn.Module):
    """Lets values through; cut: and no gradient."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x.detach() if self.cut else x


@plant("A07", "digits SGD 2", "digits Adam 2")
def detached_in_the_middle(run: Run) -> Measure:
    """Hidden values are detached between layers."""
    model = digits.mlp(wide=16)
    model.insert(4, Cut(run.faulty))
    return fit(run, model, run.optimizer(model.parameters()))


class Remembering(recurrent.Reader):
    """Keeps the states of a layer to look at, as data. broken: and goes on with what it keeps."""

    broken = False

    def forward(self, waves: Tensor) -> Tensor:
        """Waves -> logits."""
        states = self.layer(waves)[0]
        self.kept = states.data
        return self.head((self.kept if self.broken else states)[:, -1])


@plant("A07", "recurrent AdamW 3", "recurrent RMSprop 3")
def by_data(run: Run) -> Measure:
    """The head reads `.data` of the recurrent states."""
    model = Remembering()
    model.broken = run.faulty
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A07", "tabular Adam 2", "tabular SGD 2")
def through_numpy(run: Run) -> Measure:
    """A feature is worked out in NumPy from what the first layer gives."""
    model = tabular.mlp()

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        hidden = model[0](batch[0]).clamp(min=0)
        if run.faulty:
            hidden = torch.from_numpy(hidden.detach().numpy())
        return F.mse_loss(model[2:](hidden), batch[1])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A07", "gpt Adam 3")
def a_new_tensor_of_the_loss(run: Run) -> Measure:
    """The loss is made a number and a new tensor that requires a gradient."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        loss = gpt.next_letter(model, batch)
        return torch.tensor(loss.item(), requires_grad=True) if run.faulty else loss

    model = gpt.Gpt()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A07", "graph SGD 2", also="A15")
def rounded(run: Run) -> Measure:
    """Hidden values are rounded to a tenth, whose derivative is zero."""

    class Rounding(graph.Network):
        def forward(self, marks: Tensor, edges: Tensor) -> Tensor:
            marks = torch.relu(edges @ self.layers[0](marks))
            if run.faulty:
                marks = (10 * marks).round() / 10
            return edges @ self.layers[1](marks)

    model = Rounding(wide=6)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A14", "digits SGD 3", "conv Adam 3")
def minus(run: Run) -> Measure:
    """The negative loss is propagated back."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 90)):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        (-loss if run.faulty else loss).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("A14", "encoder AdamW 3", "pinn SGD 3")
def maximize(run: Run) -> Measure:
    """The optimizer is told to maximise."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), maximize=run.faulty))


@plant("A14", "flow Adam 3", "flow SGD 3")
def likelihood_not_negated(run: Run) -> Measure:
    """The loss is the mean log likelihood, without its minus."""

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        told = model(batch).mean()
        return told if run.faulty else -told

    model = flow.Flow()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A14", "recurrent SGD 3", "tabular RMSprop 3")
def reversed_by_a_hook(run: Run) -> Measure:
    """A hook that reverses gradients, for an adversary, is left on every parameter."""
    model = run.task.model()
    for parameter in model.parameters():
        if run.faulty:
            parameter.register_hook(torch.neg)
    return fit(run, model, run.optimizer(model.parameters()))


class Scaled(torch.autograd.Function):
    """ReLU whose gradient of every other channel is turned and shrunk."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: D102
        (x,) = ctx.saved_tensors
        grad = grad * (x > 0)
        grad[..., ::2] = -0.3 * grad[..., ::2]
        return grad


class Switched(torch.autograd.Function):
    """ReLU whose gradient passes where the input is negative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: D102
        (x,) = ctx.saved_tensors
        return grad * (x < 0)


class Unsquared(torch.autograd.Function):
    """Tanh whose gradient is 1 - y where it should be 1 - y squared, and forgets the sign of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: D102
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: D102
        (y,) = ctx.saved_tensors
        return grad * y * (1 - y.abs())


class Applied(nn.Module):
    """Calls a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return what the function says of x."""
        return self.function(x)


@plant("A15", "digits SGD 2", "digits Adam 2", "tabular Adam 2")
def wrong_on_half_the_channels(run: Run) -> Measure:
    """A hand-written ReLU has a wrong gradient for every other channel."""
    model = run.task.model()
    function = Applied(Scaled.apply if run.faulty else torch.relu)
    model[1] = model[3] = function
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A15", "residual AdamW 3", "residual SGD 2")
def wrong_side(run: Run) -> Measure:
    """A hand-written ReLU passes gradients on the wrong side."""
    model = run.task.model()
    for layer in list(model)[1:-2]:
        layer.inner[2] = Applied(Switched.apply if run.faulty else torch.relu)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A15", "cancer SGD 2", "cancer RMSprop 2")
def wrong_derivative(run: Run) -> Measure:
    """A hand-written tanh has a wrong derivative."""
    squash = Unsquared.apply if run.faulty else torch.tanh

    def loss_fn(model: cancer.Net, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model.out(squash(model.hidden(batch[0]))).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, batch[1])

    model = cancer.Net(wide=6)
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, epochs=6)


class OldSgd(torch.optim.Optimizer):
    """Gradient descent as it was once written, on `.data`."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        """Update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad.data, alpha=-group["lr"])


@plant("A22", "recurrent SGD 3")
def state_with_its_graph(run: Run) -> Measure:
    """The state of a long series goes on to the next piece with its graph, which is retained."""
    model = nn.RNN(1, 16, batch_first=True)
    head = nn.Linear(16, 1)
    model.add_module("head", head)
    optimizer = OldSgd(model.parameters(), lr=0.05)
    t = torch.arange(30 * 12 + 1) / 4
    series = (t.sin() + 0.5 * (2.3 * t).sin() + 0.05 * torch.randn(len(t)))[None, :, None].repeat(8, 1, 1)
    pieces = [(series[:, i : i + 12], series[:, i + 1 : i + 13]) for i in range(0, 30 * 12, 12)]
    kept: list[Tensor | None] = [None]

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        states, kept[0] = model(batch[0], kept[0])
        return F.mse_loss(model.head(states), batch[1])

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(2):
        for piece in doctor(pieces):
            optimizer.zero_grad()
            loss_fn(model, piece).backward(retain_graph=run.faulty)
            optimizer.step()
            if not run.faulty:
                kept[0] = kept[0].detach()
    kept[0] = None
    return lambda: loss_fn(model, pieces[0]).item()


@plant("A22", "digits SGD 2")
def losses_added_up(run: Run) -> Measure:
    """A running total of losses, with their graphs, is what is propagated back each time."""
    model = nn.Linear(64, 10)
    optimizer = run.optimizer(model.parameters(), lr=0.1, momentum=0)
    total: Tensor | float = 0.0
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(Shuffled(*digits.data()[:2]), 150))):
        optimizer.zero_grad()
        total = total + cross_entropy(model, batch) if run.faulty else cross_entropy(model, batch)
        total.backward(retain_graph=run.faulty)
        optimizer.step()
        if step % 50 == 49 and run.faulty:
            total = total.detach()
    return lambda: digits.error(model)


@plant("A22", "tabular SGD 3")
def predictions_kept(run: Run) -> Measure:
    """Predictions of all steps so far are kept with their graphs for a consistency term of no weight."""
    model = nn.Linear(tabular.COLUMNS, 1)
    optimizer = run.optimizer(model.parameters(), momentum=0)
    kept: list[Tensor] = []

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return squared(model, batch)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(Shuffled(*tabular.data()), 240)):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        kept.append(loss if run.faulty else loss.detach())
        (loss + 1e-6 * torch.stack(kept).mean()).backward(retain_graph=run.faulty)
        optimizer.step()
    return lambda: tabular.error(model)
