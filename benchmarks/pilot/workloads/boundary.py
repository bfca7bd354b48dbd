"""A boundary problem of second order, u'' = u^3 + f, by a network on points drawn anew, judged by its error."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded, squared

ROWS = 48
ENDS = torch.tensor([[0.0], [1.0]])


def network() -> nn.Module:
    """Return a smooth perceptron of the place."""
    return nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )


def solution(places: Tensor) -> Tensor:
    """Return u, from which f is made."""
    return places + (3 * torch.pi * places).sin() / 2


def source(places: Tensor) -> Tensor:
    """Return f."""
    return -4.5 * torch.pi**2 * (3 * torch.pi * places).sin() - solution(places) ** 3


def slope(values: Tensor, places: Tensor) -> Tensor:
    """Return the derivative by place, itself differentiable."""
    return torch.autograd.grad(values.sum(), places, create_graph=True)[0]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean squared residual inside, and a hundred times the squared errors at both ends."""
    with torch.enable_grad():
        places = batch[0].detach().requires_grad_()
        value = model(places)
        residual = slope(slope(value, places), places) - value**3 - source(places)
        return residual.square().mean() + 100 * (model(ENDS) - solution(ENDS)).square().sum()


def points(draw: torch.Generator) -> Batch:
    """Return places in [0, 1]."""
    return (torch.rand(ROWS, 1, generator=draw),)


def workloads() -> list[Workload]:
    """Return one."""
    fine = torch.linspace(0, 1, 300)[:, None]
    val = [(fine, solution(fine))]
    return [
        Workload("boundary_cubic", "pinn", seeded(network), loss, drawn(points), val, ROWS, 1200, score=squared),
    ]
