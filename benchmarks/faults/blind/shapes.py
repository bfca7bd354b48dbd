"""How the model begins and how it is built (C01 to C13)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import apart, arms, made, papers, sorted_right, tuples, world
from faults.case import Measure, Run, plant


def each_weight(model: nn.Module) -> list[nn.Parameter]:
    """Return all matrices of a model."""
    return [each for each in model.parameters() if each.ndim > 1]


@plant("C01", "radar Adam 3", "duties AdamW 1")
def all_weights_alike(run: Run) -> Measure:
    """Weights begin as one number."""
    model = world(run).model()
    if run.faulty:
        for each in each_weight(model):
            nn.init.constant_(each, run.pick(0.01, 0.02, 0.05))
    return train(run, model, made(run, model))


@plant("C01", "counts Adam 3", "inverse SGD 2")
def nothing_to_begin_with(run: Run) -> Measure:
    """All parameters begin at zero, that the first output be zero."""
    model = world(run).model()
    if run.faulty:
        for each in model.parameters():
            nn.init.zeros_(each)
    return train(run, model, made(run, model))


@plant("C02", "duties RMSprop 3", "clinic AdamW 1")
def randn_as_it_is(run: Run) -> Measure:
    """Matrices begin as torch.randn gives them."""
    model = world(run).model()
    if run.faulty:
        for each in each_weight(model):
            each.data = torch.randn(each.shape) * run.pick(0.6, 1.0, 1.0)
    return train(run, model, made(run, model))


class _Deep(nn.Module):
    """Many layers, one after the other."""

    def __init__(self, layer: type[nn.Module], depth: int, into: int, out: int, wide: int = 24) -> None:
        super().__init__()
        sizes = [into, *[wide] * depth]
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(sizes))
        self.bend, self.out = layer(), nn.Linear(wide, out)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.bend(layer(x))
        return self.out(x).squeeze(-1)


@plant("C03", "radar SGD 3")
def many_sigmoids(run: Run) -> Measure:
    """Seven layers of sigmoids, where the twin has ReLUs begun as befits them."""
    into, out = (12, 1) if run.case.family == "radar" else (2, 3)
    model = _Deep(run.either(nn.Sigmoid, nn.ReLU), run.pick(4, 6, 7), into, out)
    if not run.faulty:
        for layer in model.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return train(run, model, made(run, model, 0.5))


@plant("C03", "counts SGD 3", "lifetimes Adam 2")
def deviation_of_a_thousandth(run: Run) -> Measure:
    """Weights begin with a standard deviation that was meant for another network."""
    model = world(run).model()
    if run.faulty:
        for each in each_weight(model):
            nn.init.normal_(each, std=run.pick(1e-2, 1e-3, 1e-3))
    return train(run, model, made(run, model))


class _Loop(nn.Module):
    """A recurrent net written out."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.into, self.again, self.out = nn.Linear(2, 20), nn.Linear(20, 20, bias=False), nn.Linear(20, 1)
        nn.init.orthogonal_(self.again.weight, gain)

    def forward(self, windows: Tensor) -> Tensor:
        h = torch.zeros(len(windows), 20)
        for at in range(windows.shape[1]):
            h = F.relu(self.into(windows[:, at]) + self.again(h))
        return self.out(h).squeeze(-1)


@plant("C04", "weather Adam 2")
def recurrence_that_grows(run: Run) -> Measure:
    """Recurrent weights begin with a gain above 1, under a ReLU."""
    model = _Loop(run.either(run.pick(1.6, 2.2, 2.5), 0.9))
    return train(run, model, made(run, model, 0.3))


@plant("C04", "spiral SGD 3")
def sums_that_double(run: Run) -> Measure:
    """Each layer adds to the stream what it says of it, ten times over and unbounded; the twin takes a tenth of it."""

    class Stream(nets.Flow):
        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x)
            for layer in self.field:
                h = h + self.pace * F.relu(layer(h))
            return self.head(h)

    model = Stream(depth=9, pace=run.either(4.0, 0.3))
    return train(run, model, made(run, model))


class _Positive(nets.Forecast):
    """Values as after a ReLU."""

    def forward(self, windows: Tensor) -> Tensor:
        return super().forward(windows).relu()


@plant("C05", "weather Adam 3")
def relu_on_the_output(run: Run) -> Measure:
    """The output goes through a ReLU, and begins below zero; half the targets are below zero too."""
    model = run.either(_Positive, nets.Forecast)()
    nn.init.constant_(model.out.bias, -0.6)
    return train(run, model, made(run, model))


@plant("C05", "radar Adam 3", onset=25)
def one_step_too_far(run: Run) -> Measure:
    """At one batch biases are pulled far below zero by hand, and most units never come back."""
    here = world(run)
    model = nets.Plain() if run.case.family == "radar" else here.model()
    if run.case.family == "duties":
        model.trunk[1], model.trunk[3] = nn.ReLU(), nn.ReLU()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    step = 0
    for _ in range(here.epochs):
        for batch in doctor(here.data()):
            if step == 25 and run.faulty:
                with torch.no_grad():
                    hidden = [each for each in model.modules() if isinstance(each, nn.Linear)][:2]
                    hidden[1].bias[4:] -= 25.0
                    hidden[0].bias[4:] -= 25.0
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
            step += 1
    return lambda: here.measure(model)


@plant("C06", "lifetimes SGD 3")
def tanh_at_its_ends(run: Run) -> Measure:
    """Hidden weights begin so large that every tanh is at one end."""
    model = world(run).model()
    if run.faulty:
        for each in each_weight(model)[:-1]:
            each.data.mul_(run.pick(8, 15, 40))
    return train(run, model, made(run, model))


@plant("C07", "tones Adam 2")
def two_at_a_time(run: Run) -> Measure:
    """Batches of two under batch norm, where the twin has group norm."""
    here = world(run)
    model = here.model()
    if not run.faulty:
        for name, part in list(model.named_modules()):
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(model, name, nn.GroupNorm(2, part.num_features))
    x, y = (torch.cat(column) for column in zip(*here.data(), strict=True))
    return train(run, model, made(run, model, 0.3), data=tuples(x[:400], y[:400], size=2), epochs=1)


@plant("C08", "bars AdamW 3", "tones RMSprop 1", decidable=20)
def momentum_of_another_library(run: Run) -> Measure:
    """The momentum of batch norm is given as other libraries mean it, or nearly 0."""
    momentum = run.either(run.pick(0.01, 0.004, 0.001), 0.1)
    model = world(run).model(momentum=momentum)
    return train(run, model, made(run, model))


@plant("C09", "cloze Adam 3", "clinic AdamW 1")
def queries_and_keys_that_shout(run: Run) -> Measure:
    """Queries and keys begin so large that attention is all or nothing."""
    model = world(run).model()
    if run.faulty:
        blocks = model.blocks if run.case.family == "cloze" else [model.block]
        for block in blocks:
            wide = block.self_attn.embed_dim
            block.self_attn.in_proj_weight.data[: 2 * wide] *= run.pick(8, 15, 20)
    return train(run, model, made(run, model))


@plant("C11", "twins Adam 3")
def nothing_pushes_apart(run: Run) -> Measure:
    """A slip of the mask leaves only the pull between rows of one group: all rows go to one point."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, other, same = batch
        return apart(model, (one, other, torch.ones_like(same) if run.faulty else same))

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn)


@plant("C11", "citations RMSprop 2")
def smoothed_over(run: Run) -> Measure:
    """So many layers of averaging over neighbours that all papers look alike."""
    model = nets.Graph(depth=run.either(run.pick(6, 8, 10), 2))
    return train(run, model, made(run, model), loss=sorted_right, data=[papers()])


@plant("C12", "spiral Adam 3", "radar AdamW 1")
def as_narrow_as_can_be(run: Run) -> Measure:
    """Two or three units, where a few dozen are needed."""
    here = world(run)
    model = here.model(**({"wide": run.pick(4, 2, 2)} if run.faulty else {}), **_more(run))
    if run.case.family == "tones" and run.faulty:
        model[4], model[5], model[9] = nn.Conv1d(2, 2, 5, padding=2), nn.BatchNorm1d(2), nn.Linear(4, 5)
    return train(run, model, made(run, model))


def _more(run: Run) -> dict[str, int]:
    return {"depth": 1} if run.case.family == "spiral" and run.faulty else {}


class _Straight(nets.Rate):
    """The activation was lost with a refactoring."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.two(self.one(x))).squeeze(-1)


@plant("C13", "counts AdamW 3")
def activation_lost(run: Run) -> Measure:
    """Layers follow each other with nothing between."""
    model = run.either(_Straight, nets.Rate)()
    return train(run, model, made(run, model))


@plant("C13", "spiral RMSprop 3")
def field_without_a_bend(run: Run) -> Measure:
    """The field of a flow is linear; so is the flow."""

    class Flat(nets.Flow):
        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x)
            for layer in self.field:
                h = h + 0.3 * layer(h)
            return self.head(h)

    model = run.either(Flat, nets.Flow)()
    return train(run, model, made(run, model, 0.5), data=tuples(*arms(), size=30))
