"""Prodigy: Adam that finds its learning rate itself."""

from math import inf

from steepest.formula import dot, everywhere, maximum, minimum, sqrt, total, where
from steepest.rule import rule

_ONE = "the estimate of the distance is one for all parameters"


@rule(
    paper="Mishchenko & Defazio 2023, arXiv:2306.06101, Algorithm 4",
    same_as="prodigyopt.Prodigy",
    breaks={
        "agrees-in-float64": _ONE,
        "late-gradient-starts-fresh": _ONE,
        "nan-stays-home": _ONE,
        "groups-are-optimizers": _ONE,
        "added-group-joins": _ONE,
    },
)
def prodigy(
    p, g, m, v, s, p0, d: "shared", d_max: "shared", numerator: "shared", *, t, lr=1.0, beta1=0.9, beta2=0.999,
    eps=1e-8, beta3=None, weight_decay=0, decouple=True, use_bias_correction=False, safeguard_warmup=False, d0=1e-6,
    d_coef=1.0, growth_rate=inf,
):  # fmt: skip
    """AdamW at the rate lr d, where d is a growing estimate of the distance from the start to the solution.

    m, v: running means of d g and its square. s: of d d g, with beta3 (sqrt(beta2) if None). p0: where p started.
    d: the estimate, one for all tensors. d_max: the largest estimate so far, of which d is the part that growth_rate
    allows. numerator: running mean of d d times the inner product of g with p0 - p, over all tensors.
    lr only scales what d finds (1 is the method; schedules multiply it). Groups may differ in lr: each takes steps of
    its own lr d and counts with its lr in the estimate (prodigyopt refuses them). beta3, d0, d_coef, growth_rate and
    safeguard_warmup (lr is left out of s) must be the same in all groups. A tensor that joins late starts at this d.
    Departs from the paper: as prodigyopt 1.1.2, where eps is multiplied by the new d and there is no bias correction
    unless asked for (optax always corrects). Where every gradient is 0, weights still decay; prodigyopt skips the step.
    Good for: fine-tuning without a search for lr. Bad for: long runs from scratch, where a tuned AdamW wins.
    """
    beta3 = beta2**0.5 if beta3 is None else beta3
    if t == 1:
        p0 = p
    if weight_decay and not decouple:
        g = g + weight_decay * p
    d = maximum(d, d0)
    d_max = maximum(d_max, d0)
    rate = d * (lr * sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else lr)
    m = beta1 * m + d * (1 - beta1) * g
    v = beta2 * v + d * d * (1 - beta2) * g * g
    s = beta3 * s + d / d0 * (d if safeguard_warmup else rate) * g
    numerator = beta3 * numerator + everywhere(d / d0 * rate * dot(g, p0 - p))
    denominator = everywhere(total(abs(s)))
    found = where(denominator == 0, d, d_coef * numerator / maximum(denominator, 1e-300))
    d_max = maximum(d_max, found)
    d = minimum(d_max, where(d == d0, maximum(d, found), d) * growth_rate)
    if weight_decay and decouple:
        p = p * (1 - rate * weight_decay)
    return p - rate * m / (sqrt(v) + d * eps), m, v, s, p0, d, d_max, numerator
