"""LaProp: momentum of gradients that have been divided by their root mean square already."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(
    paper="Ziyin et al. 2020, arXiv:2002.04839, Algorithm 1",
    same_as="pytorch_optimizer.LaProp",
    # Numbers: its authors' code, Z-T-WANG/LaProp-Optimizer.
    worked=([0.5, -2.0, 0.1], [0.9996, 0.999699302312712, 0.999749574913911]),
)
def laprop(p, g, m, v, *, t, lr=4e-4, beta1=0.9, beta2=0.999, eps=1e-15, weight_decay=0):
    """Adam with the two in the other order: first divide by the root mean square, then average.

    m: running mean of the divided gradients. v: running mean of g squared.
    Departs from the paper: weight_decay acts on the weights after the step, times lr.
    Other libraries: in the authors' code the decay is not times lr, and lr enters when a gradient is averaged, which
    differs from this while lr changes; pytorch_optimizer adds 1e-15 inside the root, and eps before bias correction.
    Good for: any pair of betas, even beta1 > beta2, where Adam diverges. Bad for: nothing that Adam is not.
    """
    v = beta2 * v + (1 - beta2) * g * g
    correction = sqrt(1 - beta2**t)
    m = beta1 * m + (1 - beta1) * correction * g / (sqrt(v) + correction * eps)
    p = p - lr / (1 - beta1**t) * m
    return p * (1 - lr * weight_decay), m, v
