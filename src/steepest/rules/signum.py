"""Signum: the sign of the mean gradient."""

from steepest.formula import sign
from steepest.rule import rule


@rule(paper="Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2", same_as="pytorch_optimizer.SignSGD")
def signum(p, g, m, *, lr=1e-3, momentum=0.9, weight_decay=0):
    """Move each weight by lr against the sign of its mean gradient; without momentum, of its gradient (signSGD).

    m: running mean of g.
    Departs from the paper: nowhere. weight_decay acts on the weights, times lr (MXNet's wd_lh; its wd is L2).
    Good for: large batches, gradients sent as bits. Bad for: small batches, and an end without a falling lr.
    """
    p = p * (1 - lr * weight_decay)
    if momentum:
        m = momentum * m + (1 - momentum) * g
        g = m
    return p - lr * sign(g), m
