"""LARS: SGD whose step, for each tensor, is in proportion to the tensor."""

from steepest.formula import maximum, norm, where
from steepest.rule import rule


@rule(
    paper="You et al. 2017, arXiv:1708.03888, Algorithm 1",
    same_as="pytorch_optimizer.LARS",
    # Numbers: timm with always_adapt=True, eps=0.
    worked=([0.5, -2.0, 0.1], [0.999, 0.999099, 0.998189001]),
)
def lars(p, g, b, *, lr=1.0, momentum=0.9, weight_decay=0, trust_coefficient=1e-3):
    """SGD with momentum whose gradient is rescaled, for each tensor, to trust_coefficient times the tensor's length.

    b: momentum buffer, a decaying sum of rescaled gradients.
    Departs from the paper: the sum is multiplied by lr when it is used, not when it is gathered, as torch's SGD. A
    tensor of length 0, or without gradient and decay, is not rescaled.
    Other libraries: pytorch_optimizer is the same for matrices and leaves vectors to SGD; timm adds eps to the
    denominator and rescales no tensor without decay. LARC clips the rescaled rate at lr instead of multiplying the two.
    Good for: convolutional networks at batches of many thousands. Bad for: small batches. Give biases and norms to SGD.
    """
    p_norm = norm(p)
    length = norm(g) + weight_decay * p_norm
    g = g + weight_decay * p
    # The direction first: for a gradient near the least number, the ratio of the two lengths overflows.
    trusted = trust_coefficient * p_norm * (g / maximum(length, 1e-300))
    b = momentum * b + where(p_norm * length == 0, g, trusted)
    return p - lr * b, b
