"""AdamW: Adam with decoupled weight decay."""

from steepest.formula import maximum, sqrt
from steepest.rule import rule


@rule(paper="Loshchilov & Hutter 2017, arXiv:1711.05101, Algorithm 2", same_as="torch.optim.AdamW")
def adamw(p, g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, amsgrad=False):
    """Adam whose weight decay acts on the weights directly.

    m: running mean of g. v: running mean of g squared. v_max: largest v so far, only with amsgrad.
    Departs from the paper: the decay is multiplied by lr, as in torch.
    Good for: nearly everything. Bad for: badly scaled problems at a rate tuned elsewhere.
    """
    p = p * (1 - lr * weight_decay)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    if amsgrad:
        v_max = maximum(v_max, v)
    # m_hat / (sqrt(v_hat) + eps) with both corrections moved to the scalars: one division for each element, not three.
    correction = sqrt(1 - beta2**t)
    alpha = lr * correction / (1 - beta1**t)
    return p - alpha * m / (sqrt(v_max if amsgrad else v) + correction * eps), m, v, v_max
