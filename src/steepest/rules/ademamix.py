"""AdEMAMix: Adam with a second, much slower momentum."""

from math import exp, log

from steepest.formula import sqrt
from steepest.rule import rule


@rule(
    paper="Pagliardini et al. 2024, arXiv:2409.03137, Algorithm 1",
    same_as="pytorch_optimizer.AdEMAMix(weight_decouple=True)",
    # Numbers: its authors' code, apple/ml-ademamix, with alpha=5.
    worked=([0.5, -2.0, 0.1], [0.99899950002001, 0.999559517909598, 0.999961127688935]),
)
def ademamix(
    p, g, fast, slow, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, beta3=0.9999, alpha=5.0, eps=1e-8, weight_decay=0,
    alpha_warmup=None, beta3_warmup=None,
):  # fmt: skip
    """Adam that adds alpha times a momentum remembering thousands of steps.

    fast, slow: running means of g, with beta1 and beta3; slow is not corrected for its start. v: mean of g squared.
    alpha_warmup, beta3_warmup: steps over which alpha rises from 0 and beta3 from beta1 (evenly in half-life).
    Departs from the paper: nowhere. alpha is the paper's 5 (the authors' code has 2); decay acts on the weights.
    Other libraries: pytorch_optimizer has one warm-up t_alpha_beta3 for both, and L2 decay unless weight_decouple=True.
    Good for: long runs over much data. Bad for: short runs, which end before the slow mean has begun to help.
    """
    if alpha_warmup:
        alpha = alpha * min(1, t / alpha_warmup)
    if beta3_warmup and t < beta3_warmup:
        done = t / beta3_warmup
        beta3 = min(beta3, exp(log(beta1) * log(beta3) / ((1 - done) * log(beta3) + done * log(beta1))))
    p = p * (1 - lr * weight_decay)
    fast = beta1 * fast + (1 - beta1) * g
    slow = beta3 * slow + (1 - beta3) * g
    v = beta2 * v + (1 - beta2) * g * g
    correction = sqrt(1 - beta2**t)
    direction = correction / (1 - beta1**t) * fast + correction * alpha * slow
    return p - lr * direction / (sqrt(v) + correction * eps), fast, slow, v
