"""Adan: Adam with Nesterov's momentum, estimated from differences of gradients."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(
    paper="Xie et al. 2022, arXiv:2208.06677, Algorithm 1",
    same_as="pytorch_optimizer.Adan",
    # Numbers: its authors' code, sail-sg/Adan.
    worked=([0.5, -2.0, 0.1], [0.99900000002, 0.999638920883872, 0.999832808104968]),
)
def adan(p, g, m, v, n, prev, *, t, lr=1e-3, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8, weight_decay=0):
    """Move each weight by its mean gradient and its mean change of gradient, divided by their joint root mean square.

    m: running mean of g. v: running mean of the change of g. n: running mean of the square of both.
    prev: the gradient before.
    Departs from the paper: the betas are those of the authors' code, 1 minus the paper's, with its bias corrections.
    Decay is the paper's, a division after the step (the code's no_prox=False).
    Other libraries: optimi and timm are the same; optax weighs the change by 1 - beta2 where paper and code have beta2.
    Good for: vision transformers, large batches. Bad for: memory (four states).
    """
    change = g - (g if t == 1 else prev)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * change
    ahead = g + beta2 * change
    n = beta3 * n + (1 - beta3) * ahead * ahead
    correction = sqrt(1 - beta3**t)
    direction = correction / (1 - beta1**t) * m + correction * beta2 / (1 - beta2**t) * v
    p = p - lr * direction / (sqrt(n) + correction * eps)
    if weight_decay:
        p = p / (1 + lr * weight_decay)
    return p, m, v, n, g
