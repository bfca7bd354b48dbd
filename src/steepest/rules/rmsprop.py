"""RMSprop: each gradient over its root mean square."""

from steepest.formula import maximum, sqrt
from steepest.rule import rule


@rule(
    paper="Tieleman & Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv:1308.0850, section 4.2",
    same_as="torch.optim.RMSprop",
)
def rmsprop(p, g, v, m, b, *, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False):
    """Move each weight by its gradient, divided by the root mean square of its recent gradients.

    v: running mean of g squared. m: running mean of g, only if centered. b: momentum buffer, only with momentum.
    This is torch's form. TensorFlow's (timm's RMSpropTF) has eps inside the root and starts v at 1.
    Departs from torch: a centered mean square that rounding made negative counts as 0 (torch makes it NaN).
    Good for: recurrent networks, reinforcement learning. Bad for: first steps, which are up to 10 times lr long because
    v starts at 0 and is not corrected.
    """
    if weight_decay:
        g = g + weight_decay * p
    v = alpha * v + (1 - alpha) * g * g
    spread = v
    if centered:
        m = alpha * m + (1 - alpha) * g
        spread = maximum(v - m * m, 0)
    step = g / (sqrt(spread) + eps)
    if momentum:
        b = momentum * b + step
        step = b
    return p - lr * step, v, m, b
