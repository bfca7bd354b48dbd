"""Networks that solve differential equations, without noise: judged by their error against the solution."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded, squared


def network() -> nn.Module:
    """Return a smooth perceptron of time."""
    return nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1))


def slope(values: Tensor, times: Tensor) -> Tensor:
    """Return the derivative by time, itself differentiable."""
    return torch.autograd.grad(values.sum(), times, create_graph=True)[0]


def oscillator(model: nn.Module, batch: Batch) -> Tensor:
    """Return the residual of u'' + u' + 16 u = 0 with u(0) = 1, u'(0) = 0."""
    with torch.enable_grad():
        times = batch[0].detach().requires_grad_()
        value = model(times)
        first = slope(value, times)
        residual = (slope(first, times) + first + 16 * value).square().mean()
        return residual / 16 + 10 * ((value[0] - 1).square() + first[0].square() / 16).sum()


def damped(times: Tensor) -> Tensor:
    """Return the solution of the oscillator."""
    pulse = (16 - 0.25) ** 0.5
    return (-times / 2).exp() * ((pulse * times).cos() + (pulse * times).sin() / (2 * pulse))


def forced(model: nn.Module, batch: Batch) -> Tensor:
    """Return the residual of u' + 2 u = 5 cos 5 t with u(0) = 0."""
    with torch.enable_grad():
        times = batch[0].detach().requires_grad_()
        value = model(times)
        residual = (slope(value, times) + 2 * value - 5 * (5 * times).cos()).square().mean()
        return residual + 10 * value[0].square().sum()


def driven(times: Tensor) -> Tensor:
    """Return the solution of the forced equation."""
    return (10 * (5 * times).cos() + 25 * (5 * times).sin() - 10 * (-2 * times).exp()) / 29


def workloads() -> list[Workload]:
    """Return two."""
    times, fine = torch.linspace(0, 2, 64)[:, None], torch.linspace(0, 2, 300)[:, None]
    batches = drawn(lambda draw: (times,))
    build = seeded(network)
    return [
        Workload(
            "pinn_oscillator", "pinn", build, oscillator, batches, [(fine, damped(fine))], 64, 1500, score=squared
        ),
        Workload("pinn_forced", "pinn", build, forced, batches, [(fine, driven(fine))], 64, 2000, score=squared),
    ]  # fmt: skip
