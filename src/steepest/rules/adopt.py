"""ADOPT: Adam that divides each gradient by the mean square of the ones before it."""

from steepest.formula import maximum, minimum, sqrt
from steepest.rule import rule


@rule(
    paper="Taniguchi et al. 2024, arXiv:2411.02853, the clipped form of its authors' code",
    same_as="adopt.ADOPT",
    # Numbers: its authors' code, iShohei220/adopt.
    worked=([0.5, -2.0, 0.1], [1.0, 1.0001, 1.000170014983146]),
)
def adopt(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6, weight_decay=0, decouple=False):
    """Move each weight by a running mean of gradients, each divided by the root mean square of those before it.

    m: running mean of the divided gradients. v: running mean of g squared, up to the step before.
    The first step only fills v: no weight moves. A divided gradient counts at most (t - 1) ** 0.25.
    decouple: weight_decay acts on the weights directly, as in AdamW, instead of being added to the gradient.
    Other libraries: timm and optax are the same; pytorch_optimizer clips at t ** 0.25 and with decoupled decay shrinks
    weights in the first step too; HeavyBall does not clip.
    Good for: any beta2, small batches. Bad for: very short runs.
    """
    if weight_decay and not decouple:
        g = g + weight_decay * p
    if t == 1:
        return p, m, g * g
    if decouple:
        p = p * (1 - lr * weight_decay)
    limit = (t - 1) ** 0.25
    m = beta1 * m + (1 - beta1) * minimum(maximum(g / maximum(sqrt(v), eps), -limit), limit)
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * m, m, v
