"""Lion: momentum of which only the sign is used."""

from steepest.formula import sign
from steepest.rule import rule


@rule(
    paper="Chen et al. 2023, arXiv:2302.06675, Algorithm 2",
    same_as="pytorch_optimizer.Lion(weight_decay=0.01)",
    worked=([0.5, -2.0, 0.1], [0.999899, 0.999998000101, 1.000097000102999899]),
)
def lion(p, g, m, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.01):
    """Move each weight by lr, in the direction of the sign of momentum mixed with gradient.

    m: running mean of g.
    Departs from the paper: nowhere; of libraries, bitsandbytes before mid-2026 added the decay to the gradient.
    Good for: large batches, tight memory (one state; Adam has two).
    Bad for: small batches, where the sign of g is mostly noise.
    """
    c = beta1 * m + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    return p - lr * (sign(c) + weight_decay * p), m
