"""AdaBelief: Adam that divides by how far gradients stray from their mean."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(
    paper="Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2",
    same_as="pytorch_optimizer.AdaBelief",
    # Numbers: its authors' package adabelief_pytorch 0.2.1 with rectify=False.
    worked=([0.5, -2.0, 0.1], [0.998888888888889, 0.999496257317883, 0.999928947732104]),
)
def adabelief(p, g, m, s, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, weight_decay=0):
    """Adam with long steps where the gradient is as expected and short ones where it is not.

    m: running mean of g. s: running mean of (g - m) squared, to which eps is added at each step.
    Departs from the paper: eps is 1e-16, as in the authors' package since 0.1 (1e-8 before); weight_decay acts on the
    weights, times lr. That package also rectifies the first steps as RAdam does, unless rectify=False.
    Good for: Adam's problems where SGD ends better. Bad for: gradients that hardly change, because s goes to 0.
    """
    p = p * (1 - lr * weight_decay)
    m = beta1 * m + (1 - beta1) * g
    surprise = g - m
    s = beta2 * s + (1 - beta2) * surprise * surprise + eps
    correction = sqrt(1 - beta2**t)
    return p - lr * correction / (1 - beta1**t) * m / (sqrt(s) + correction * eps), m, s
