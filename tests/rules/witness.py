"""How a rule is compared with another implementation: same start, same gradients, float64, the largest difference."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from steepest.rule import Rule
from steepest.rules import RULES

STEPS = 50
SHAPES = ((), (7,), (4, 3), (2, 3, 3))
MATRICES = ((4, 3), (2, 3, 3))
Tensors = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """One comparison of a rule with an implementation that is installed.

    other: makes the other optimizer for a list of parameters. options: hyper-parameters of ours that mean the same.
    rates: lr at step t, for both, if it is not constant. points: reads from the other optimizer where its model should
    be evaluated, to be compared with the rule's `average`.
    """

    rule: str
    name: str
    other: Callable[[list[torch.nn.Parameter]], Any]
    options: dict[str, Any] = field(default_factory=dict)
    rates: Callable[[int], float] | None = None
    shapes: Sequence[tuple[int, ...]] = SHAPES
    points: Callable[[Any, list[torch.nn.Parameter]], list[torch.Tensor]] | None = None

    def __str__(self) -> str:
        settings = [f"{name}={value}" for name, value in self.options.items()] + ["lr=schedule"] * bool(self.rates)
        return f"{self.rule}({', '.join(settings)}){' averaged' * bool(self.points)} = {self.name}"


def problem(shapes: Sequence[tuple[int, ...]] = SHAPES, steps: int = STEPS) -> tuple[Tensors, list[Tensors]]:
    """Return where parameters start and the gradients of each step: smooth formulas, so that they never change.

    Gradients pull each weight in a direction of its own, with noise that changes sign, of sizes from nearly 0 to 10.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    i = np.split(np.arange(sum(sizes), dtype=float), np.cumsum(sizes)[:-1])
    starts = [(0.1 + np.cos(0.6 * k)).reshape(shape) for k, shape in zip(i, shapes, strict=True)]
    gradients = [
        [
            (np.cos(1.1 * k) + np.sin(3.1 * k + 2.3 * t) * 10 ** np.sin(1.3 * k + 0.7 * t)).reshape(shape)
            for k, shape in zip(i, shapes, strict=True)
        ]
        for t in range(1, steps + 1)
    ]
    return starts, gradients


def ours(
    rule: Rule,
    starts: Tensors,
    gradients: list[Tensors],
    options: dict[str, Any],
    rates: Callable[[int], float] | None = None,
    averaged: bool = False,
) -> Iterator[Tensors]:
    """Yield the parameters after each step of the rule; averaged: the point of evaluation in their place.

    A rule with numbers shared by all tensors sees them as one long tensor, which for sums over all is the same.
    """
    shapes = [start.shape for start in starts]
    together = "*" in rule.states.values()
    tensors = [_joined(starts)] if together else starts
    states = [list(rule.zeros(p)) for p in tensors]
    for t, step in enumerate(gradients, 1):
        hyper = options | ({"lr": rates(t)} if rates else {})
        results = [
            rule(p, g, *state, t=t, **hyper)
            for p, g, state in zip(tensors, [_joined(step)] if together else step, states, strict=True)
        ]
        tensors = [np.asarray(p) for p, *_ in results]
        states = [state for _, *state in results]
        points = [rule.average(*result, **rule.options | hyper) for result in results] if averaged else tensors
        yield _parted(points[0], shapes) if together else points


def others(case: Case, starts: Tensors, gradients: list[Tensors]) -> Iterator[Tensors]:
    """Yield the parameters after each step of the other implementation."""
    with float64():
        parameters = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
        optimizer = case.other(parameters)
    for t, step in enumerate(gradients, 1):
        with float64():
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = torch.tensor(gradient)
            for group in optimizer.param_groups if case.rates else []:
                group["lr"] = case.rates(t)
            optimizer.step()
            tensors = case.points(optimizer, parameters) if case.points else parameters
            yield [tensor.detach().numpy().copy() for tensor in tensors]


class Agreement(NamedTuple):
    """gap: the largest difference of any parameter after any step. motion: how far the farthest parameter came."""

    gap: float
    motion: float


def agreement(case: Case, rule: Rule | None = None) -> Agreement:
    """Compare 50 steps of a rule with the other implementation. NaN anywhere is an infinite gap."""
    starts, gradients = problem(case.shapes)
    walk = ours(rule or RULES[case.rule], starts, gradients, case.options, case.rates, averaged=bool(case.points))
    gap = motion = 0.0
    for mine, theirs in zip(walk, others(case, starts, gradients), strict=True):
        difference = np.abs(_joined(mine) - _joined(theirs)).max()
        gap = max(gap, float(difference) if np.isfinite(difference) else np.inf)
        motion = max(motion, float(np.abs(_joined(mine) - _joined(starts)).max()))
    return Agreement(gap, motion)


@contextmanager
def float64() -> Iterator[None]:
    """Let other libraries keep their scalar state in double: torch's NAdam and ASGD follow the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _joined(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensor.ravel() for tensor in tensors])


def _parted(long: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Tensors:
    parts = np.split(long, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
