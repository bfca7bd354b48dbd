"""A hand-written function with a wrong derivative."""

from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import anatomy, seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.derivative import hand_written, wrong
from steepest.doctor.lab import Lab


@cause(
    "A15",
    "wrong-derivative",
    fix="Correct backward() of the function; torch.autograd.gradcheck tells when it is right.",
    when=STEP,
    weight=EXACT,
    masks="B C D",
)
def wrong_derivative(lab: Lab) -> Found | None:
    """Training is slow, or stays above a floor, though the loss is right.

    An autograd.Function of the user's is in the graph of the loss. What only changes gradients by intention is left
    out: functions that give what they were given, and those that are flat between jumps.

    What its backward() says is held against differences of its forward() in double precision, of two widths.
    """
    if not seldom(lab, "A15", 2):
        return None
    seen = anatomy(lab)
    if seen is None:
        return None
    for kind, (given, gave) in hand_written(lab, seen).items():
        try:
            miss = wrong(kind, given, gave)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            continue
        if miss is not None:
            summary = (
                f"backward() of {kind.__name__} is wrong: differences of its forward() are another, by {miss:.0%}."
            )
            return Found(summary, {"function": kind.__name__, "off by": miss}, proven=True)
    return None


class Squashed(torch.autograd.Function):
    """A hand-written tanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return tanh x."""
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        """Forget the square."""
        (y,) = ctx.saved_tensors
        return grad * (1 - y)


class Applied(nn.Module):
    """A layer of it. right: the one of torch."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        """Return tanh x."""
        return x.tanh() if self.right else Squashed.apply(x)


def demo(run: Demo) -> None:
    """A hand-written tanh whose derivative lacks a square."""
    model = run.network()
    model[1] = Applied(not run.faulty)
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), entropy, run.batches(run.classes()))
