"""LAMB: AdamW whose step, for each tensor, is as long as the tensor times lr."""

from steepest.formula import maximum, norm, sqrt, where
from steepest.rule import rule


@rule(
    paper="You et al. 2019, arXiv:1904.00962, Algorithm 2",
    same_as="timm.optim.Lamb(max_grad_norm=None, always_adapt=True)",
    # Numbers: timm (of one number the length is all there is, so this only shows the trust ratio).
    worked=([0.5, -2.0, 0.1], [0.999, 0.999999, 1.000998999]),
)
def lamb(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01):
    """AdamW whose update is rescaled, for each tensor, to the length of the tensor.

    m: running mean of g. v: running mean of g squared.
    Departs from the paper: its phi is the identity (the tensor's length is not clipped). A tensor or an update of
    length 0 is not rescaled.
    Other libraries: optax is the same; timm also clips the global gradient norm to 1 (here clip=1) and rescales no
    tensor without decay, unless told otherwise; pytorch_optimizer has no bias corrections and clips the length at 10.
    Good for: batches of many thousands. Bad for: small batches. Give biases and norms to AdamW.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    correction = sqrt(1 - beta2**t)
    r = correction / (1 - beta1**t) * m / (sqrt(v) + correction * eps) + weight_decay * p
    p_norm, r_norm = norm(p), norm(r)
    trust = where(p_norm * r_norm == 0, 1, p_norm / maximum(r_norm, 1e-300))
    return p - lr * trust * r, m, v
