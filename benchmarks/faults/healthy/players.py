"""Adversaries, policies and targets that move: losses that go up, down or nowhere, as they are meant to."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, healthy
from faults.families import digits, flow
from faults.families.batches import drawn, endless
from faults.loops import fit


def two_players(run: Run, critic: nn.Module, limit: float | None) -> Measure:
    """Train a generator against a critic, two critic steps for each; with a limit, the critic's weights are clipped."""
    maker = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    true = flow.data()
    more = {"betas": (0.5, 0.9)} if run.case.optimizer == "Adam" else {}
    first = run.optimizer(maker.parameters(), lr=2e-3, **more)
    second = run.optimizer(critic.parameters(), lr=2e-3, **more)

    def fooled(maker: nn.Module, batch: Tensor) -> Tensor:
        told = critic(maker(torch.randn(len(batch), 2)))
        return -told.mean() if limit else F.softplus(-told).mean()

    doctor = run.watch(maker, first, loss=fooled)
    for batch in doctor(endless(flow.Points(true), 200)):
        for _ in range(2):
            second.zero_grad()
            fake = maker(torch.randn(len(batch), 2)).detach()
            good, bad = critic(batch), critic(fake)
            loss = bad.mean() - good.mean() if limit else (F.softplus(-good) + F.softplus(bad)).mean()
            loss.backward()
            second.step()
            with torch.no_grad():
                for each in critic.parameters():
                    each.clamp_(-(limit or 1e9), limit or 1e9)
        first.zero_grad()
        fooled(maker, batch).backward()
        first.step()
    return lambda: moments(maker, true)


@torch.no_grad()
def moments(maker: nn.Module, true: Tensor) -> float:
    """Return how far mean and spread of what is made are from those of the data."""
    made = maker(torch.randn(2000, 2, generator=drawn(95)))
    return ((made.mean(0) - true.mean(0)).abs() + (made.std(0) - true.std(0)).abs()).mean().item()


@healthy("flow Adam", "flow RMSprop", scary=True)
def adversaries(run: Run) -> Measure:
    """A generator and a critic, whose losses go up and down."""
    return two_players(run, nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)), None)


@healthy("flow RMSprop", scary=True)
def critic_with_clipped_weights(run: Run) -> Measure:
    """The same with a critic whose weights are clipped after each step; the loss is any number."""
    return two_players(run, nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1)), 0.2)


@healthy("tabular Adam", "tabular SGD", scary=True)
def moving_target(run: Run) -> Measure:
    """Values of a chain of states are learned from their own estimates, by a copy that follows slowly: losses rise."""
    states = torch.eye(10)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    target = copy.deepcopy(model).requires_grad_(False)
    true = torch.tensor([sum(0.9 ** (end - place) for end in (9,)) for place in range(10)]).unsqueeze(1)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        place, reward, done = batch
        after = target(states[(place + 1).clamp(max=9)])
        return F.mse_loss(model(states[place]), reward + 0.9 * (1 - done) * after)

    def walk() -> Any:
        for _ in range(250):
            place = torch.randint(10, (32,))
            done = (place == 9).float().unsqueeze(1)
            yield place, done, done

    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(walk()):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
        torch._foreach_lerp_(list(target.parameters()), [each.detach() for each in model.parameters()], 0.1)
    return lambda: F.mse_loss(model(states), true).item()


@healthy("digits Adam", "digits SGD", scary=True)
def rewards(run: Run) -> Measure:
    """A policy is rewarded for the right digit; its loss has no floor and no direction."""
    model = digits.mlp()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        policy = torch.distributions.Categorical(logits=model(batch[0]))
        action = policy.sample()
        reward = (action == batch[1]).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean() - 0.01 * policy.entropy().mean()

    return fit(run, model, run.optimizer(model.parameters(), lr=2 * run.rate), loss=loss_fn, epochs=10)
