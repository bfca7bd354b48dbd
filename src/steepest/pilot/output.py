"""The scale of what is predicted, where the loss is quadratic in it: a bias to begin with, a rate to learn by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.pilot.trace import hooks

QUADRATIC = 0.01
"""So far may the gradient be from a straight line for the loss to count as quadratic. Squared errors were measured at
0.000 to 0.002, cross-entropies at 0.037 to 4."""

FAR = 1.5
"""An output that is off by so many deviations begins at its mean. What is nearer is better learned: the way there
trains the features as well."""


@dataclass(frozen=True)
class Output:
    """What was measured at the last layer. shift: to add to its bias, one for each output; size: root mean square of
    the deviations of what is to be predicted from what is; bend: how far from quadratic the loss is."""

    shift: Tensor
    size: float
    bend: float

    @property
    def quadratic(self) -> bool:
        """Whether the loss is quadratic in the prediction, so that the other two mean something."""
        return self.bend < QUADRATIC


def measure_output(last: nn.Linear, loss: Callable[[], Tensor]) -> Output | None:
    """Measure slope and curvature of the loss along each output, from three evaluations with gradient or four.

    With the loss a mean of l(y) over rows, g = dl/dy and h its change with y: the Newton step is -mean(g) / h, and
    std(g) / h is how far predictions are from targets. Whether l is quadratic is asked as far away as that. None where
    it cannot be measured.
    """
    probe = _Probe(last, loss)
    start = probe.slope(None)
    if start is None or probe.spread <= 0:
        return None
    length, nudge = _length(start), 0.01 * probe.spread
    nudged = probe.slope(torch.full_like(start[0], nudge))
    if nudged is not None and 0 < _length(nudged - start) < 1e-3 * length:  # far from the target, rounding hides it
        nudge *= 0.1 * length / _length(nudged - start)
        nudged = probe.slope(torch.full_like(start[0], nudge))
    if nudged is None:
        return None
    curvature = (nudged - start).mean(0) / nudge
    shift, deviation = -start.mean(0) / curvature, start.std(0, correction=0) / curvature
    if not bool(shift.isfinite().all()) or bool((curvature <= 0).any()):
        return None
    far = shift + deviation
    after = probe.slope(far)
    if after is None:
        return None
    shift = torch.where(shift.abs() > FAR * deviation, shift, 0.0)
    bend = _length(after - start - curvature * far) / max(_length(curvature * far.expand_as(after)), 1e-300)
    return Output(shift, _length(deviation), bend)


def _length(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


class _Probe:
    """Evaluates the loss with a number added to each output, and returns the slope at each row."""

    def __init__(self, last: nn.Linear, loss: Callable[[], Tensor]) -> None:
        self._last, self._loss = last, loss
        self._shift: Tensor | None = None
        self._output: Tensor | None = None
        self.spread = 0.0

    def slope(self, shift: Tensor | None) -> Tensor | None:
        """Return dl/dy, (rows, outputs), times the number of rows."""
        self._shift, self._output = shift, None
        with hooks([self._last], self._add):
            value = self._loss()
        if self._output is None or not value.requires_grad:
            return None
        (slope,) = torch.autograd.grad(value, self._output, allow_unused=True)
        if slope is None or not bool(slope.isfinite().all()):
            return None
        rows = slope.reshape(-1, slope.shape[-1])
        return rows.double() * len(rows)

    def _add(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if self._shift is None:
            self.spread = float(output.detach().double().std(correction=0))
            moved = output
        else:
            moved = output + self._shift.to(output.dtype)
        self._output = moved if moved.requires_grad else None
        return moved
