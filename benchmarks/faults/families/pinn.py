"""A net that is to obey u'' + 9 u = 0, u(0) = 1, u'(0) = 0: the loss has derivatives of the model in it."""

import torch
from torch import Tensor, nn

from faults.families.batches import drawn
from faults.families.task import Task


class Field(nn.Module):
    """Time to displacement."""

    def __init__(self, wide: int = 32, layers: int = 2) -> None:
        super().__init__()
        inner = [layer for _ in range(layers - 1) for layer in (nn.Linear(wide, wide), nn.Tanh())]
        self.net = nn.Sequential(nn.Linear(1, wide), nn.Tanh(), *inner, nn.Linear(wide, 1))

    def forward(self, t: Tensor) -> Tensor:
        """Times (rows, 1) from 0 to 2 -> displacements (rows, 1)."""
        return self.net(2 * t - 2)


def slope(u: Tensor, t: Tensor) -> Tensor:
    """Return du/dt, with a graph."""
    return torch.autograd.grad(u.sum(), t, create_graph=True)[0]


def residual(model: nn.Module, t: Tensor) -> Tensor:
    """Return how far the equation and the initial conditions are from holding, squared."""
    t = t.clone().requires_grad_()
    u = model(t)
    start = torch.zeros(1, 1, requires_grad=True)
    first = model(start)
    equation = (slope(slope(u, t), t) / 9 + u).square().mean()
    return equation + 4 * ((first - 1).square() + (slope(first, start) / 3).square()).mean()


def times(steps: int):  # noqa: ANN201
    """Yield times that are drawn anew."""
    for _ in range(steps):
        yield 2 * torch.rand(48, 1)


class Times:
    """So many batches of new times, as often as asked."""

    def __init__(self, steps: int = 60) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self):  # noqa: ANN204
        return times(self.steps)


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the mean squared distance to cos 3t."""
    model.eval()
    t = 2 * torch.rand(400, 1, generator=drawn(17))
    return (model(t) - (3 * t).cos()).square().mean().item()


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.004, "Adam": 0.02, "AdamW": 0.02, "RMSprop": 0.005, "Adagrad": 0.03}
    return Task(Field, residual, Times, error, rates, 5)
