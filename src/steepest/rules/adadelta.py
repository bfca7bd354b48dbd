"""Adadelta: steps in the units of the weights, from the ratio of two running means."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(paper="Zeiler 2012, arXiv:1212.5701, Algorithm 1", same_as="torch.optim.Adadelta")
def adadelta(p, g, v, u, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0):
    """Move each weight by its gradient times the size of its recent steps over the size of its recent gradients.

    v: running mean of g squared. u: running mean of the step squared.
    Departs from the paper: the step is multiplied by lr (1 is the paper) and weight_decay is L2, as torch.
    Good for: work without a learning rate, if slow is good enough. Bad for: a fast start, which eps alone decides.
    """
    if weight_decay:
        g = g + weight_decay * p
    v = rho * v + (1 - rho) * g * g
    step = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + (1 - rho) * step * step
    return p - lr * step, v, u
