"""Adafactor: Adam's second moment kept as one number for each row and column."""

from steepest.formula import column_mean, epsilon, is_matrix, maximum, rms, row_mean, sqrt
from steepest.rule import rule


@rule(paper="Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5", same_as="torch.optim.Adafactor", matrix=True)
def adafactor(
    p, g, v, r: "rows", c: "columns", *, t, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0,
):  # fmt: skip
    """Scale each step by the size of the weights, and remember the size of gradients in m + n numbers instead of m n.

    r, c: running means of the rows and columns of g squared, for matrices. v: running mean of g squared, for vectors.
    lr: at most this, and 1 / sqrt(t) later, times the root mean square of p (at least eps[1]).
    eps[0]: least size of a gradient; None is the epsilon of the dtype. d: largest root mean square of a step.
    Departs from the paper, as torch.optim does: no momentum, lr caps the paper's 1 / sqrt(t), and eps[0] bounds
    the second moment from below instead of being added to it. Departs from torch.optim: more than two dimensions
    count as one row for each first index, m + n numbers (torch factors the last two dimensions, which saves next to
    nothing for convolutions), and a weight with one row or column is a vector. Departs from other libraries: optax,
    timm, pytorch_optimizer and transformers add momentum, clip before or after the scale, take eps[0] = 1e-30 and the
    rate otherwise: no two of them agree.
    Good for: large models in tight memory. Bad for: small ones, where Adam's second moment is affordable.
    """
    tiny = epsilon(p) if eps[0] is None else eps[0]
    fresh = t**beta2_decay
    step = maximum(eps[1], rms(p)) * min(lr, 1 / t**0.5)
    p = p * (1 - lr * weight_decay)
    if is_matrix(p):
        r = (1 - fresh) * r + fresh * row_mean(g * g)
        c = (1 - fresh) * c + fresh * column_mean(g * g)
        size = r / maximum(column_mean(r), tiny) * c
    else:
        v = size = (1 - fresh) * v + fresh * g * g
    u = g / sqrt(maximum(size, tiny * tiny))
    return p - step / maximum(1.0, rms(u) / d) * u, v, r, c
