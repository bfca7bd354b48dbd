"""Yogi: Adam whose mean square moves by addition, so that it cannot collapse."""

from steepest.formula import sign, sqrt
from steepest.rule import rule


@rule(
    paper="Zaheer et al. 2018, NeurIPS, Adaptive Methods for Nonconvex Optimization, Algorithm 2",
    same_as="pytorch_optimizer.Yogi(initial_accumulator=0)",
)
def yogi(
    p, g, m, v, *, t, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3, weight_decay=0, initial_accumulator_value=1e-6
):  # fmt: skip
    """Adam whose v takes steps of (1 - beta2) g squared towards g squared, however far away it is.

    m: running mean of g. v: estimate of g squared, starting at initial_accumulator_value.
    Departs from the paper: bias corrections as in Adam, as all libraries; weight_decay acts on the weights, times lr.
    Other libraries: pytorch_optimizer and optax start m at the same value as v (here m starts at 0).
    Good for: sparse or irregular gradients, where Adam's v shrinks too fast. Bad for: a good guess of the first v.
    """
    p = p * (1 - lr * weight_decay)
    if t == 1:
        v = v + initial_accumulator_value
    m = beta1 * m + (1 - beta1) * g
    square = g * g
    v = v - (1 - beta2) * sign(v - square) * square
    correction = sqrt(1 - beta2**t)
    return p - lr * correction / (1 - beta1**t) * m / (sqrt(v) + correction * eps), m, v
