"""Rprop: only the sign of the gradient counts; step sizes grow while it stays, shrink when it turns."""

from steepest.formula import maximum, minimum, sign, where
from steepest.rule import rule


@rule(
    paper="Riedmiller & Braun 1993, ICNN",
    same_as="torch.optim.Rprop",
    breaks=dict.fromkeys(
        ("rate-zero-moves-nothing", "rate-change-takes-effect"), "lr is only the first step size; later ones are found"
    ),
)
def rprop(p, g, prev, d, *, t, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
    """Move each weight by a step size of its own, which grows while its gradient keeps its sign and shrinks when not.

    prev: the gradient before, 0 where it has just turned. d: step size, lr at first; later values of lr do nothing.
    etas: factors for a gradient that turned and one that stayed. step_sizes: smallest and largest allowed.
    Departs from the paper: a weight whose gradient turned rests for one step instead of going back (known as iRprop-),
    as torch.
    Good for: full-batch training of small networks. Bad for: mini-batches, whose noise turns gradients all the time.
    """
    shrink, grow = etas
    if not 0 < shrink < 1 < grow:
        raise ValueError(f"rprop needs etas with 0 < shrink < 1 < grow, and got {etas}")
    smallest, largest = step_sizes
    if t == 1:
        d = d + lr
    agree = sign(g) * sign(prev)
    d = where(agree > 0, grow * d, where(agree < 0, shrink * d, d))
    d = minimum(maximum(d, smallest), largest)
    g = where(agree < 0, 0, g)
    return p - sign(g) * d, g, d
