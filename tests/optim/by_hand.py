"""An independent transcription, in NumPy, of what the options of an optimizer do around a rule."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from steepest.formula import sides
from steepest.optim import Optimizer
from steepest.rule import Rule

SHAPES = [(4, 3), (16, 16), (5, 5)]


@dataclass
class ByHand:
    """Parameters, states and averages of a rule called with float64 arrays."""

    rule: Rule
    parameters: list[np.ndarray]
    hyper: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None
    skip_nonfinite: bool = False
    ema: float | None = None
    cautious: bool = False
    maximize: bool = False

    def __post_init__(self) -> None:
        self.states = [self.rule.zeros(p) for p in self.parameters]
        self.averages = [p.copy() for p in self.parameters]
        self.t = 0

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Take one step."""
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        if self.skip_nonfinite and not np.isfinite(norm):
            return
        self.t += 1
        for place, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if self.clip is not None:
                g = g * min(1.0, self.clip / (norm + 1e-6))
            if self.maximize:
                g = -g
            flat = (p.reshape(sides(p)), g.reshape(sides(g))) if self.rule.matrix else (p, g)
            new, *self.states[place] = self.rule(*flat, *self.states[place], t=self.t, **self.hyper)
            new = new.reshape(p.shape)
            if self.cautious:
                agrees = np.where((new - p) * g < 0, 1.0, 0.0)
                new = p + (new - p) * agrees / max(agrees.mean(), 1e-3)
            self.parameters[place] = new
            if self.ema is not None:
                self.averages[place] = self.ema * self.averages[place] + (1 - self.ema) * new


def problem(shapes: Sequence[tuple[int, ...]] = SHAPES, steps: int = 8, seed: int = 0) -> tuple[list, list]:
    """Return start values and the gradients of each step, float64."""
    rng = np.random.default_rng(seed)
    return (
        [rng.standard_normal(shape) for shape in shapes],
        [[rng.standard_normal(shape) for shape in shapes] for _ in range(steps)],
    )


def tensors(starts: Sequence[np.ndarray], dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    """Return parameters with these values."""
    return [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]


def give(parameters: Sequence[torch.Tensor], gradients: Sequence[np.ndarray]) -> None:
    """Set the gradients of parameters."""
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g, dtype=p.dtype)


def walk(optimizer: Optimizer, gradients: Sequence[Sequence[np.ndarray]]) -> None:
    """Step through all gradients."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in gradients:
        give(parameters, step)
        optimizer.step()


def gap(parameters: Sequence[torch.Tensor], others: Sequence[Any]) -> float:
    """Return the largest difference; a NaN is infinitely far."""
    pairs = zip(parameters, others, strict=True)
    differences = [np.abs(a.detach().double().numpy() - np.asarray(b)).max() for a, b in pairs if a.numel()]
    worst = float(np.max(differences))
    return worst if np.isfinite(worst) else float("inf")
