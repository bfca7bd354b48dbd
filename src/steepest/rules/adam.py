"""Adam: each weight moves by its mean gradient over its root mean square gradient."""

from steepest.formula import maximum, sqrt
from steepest.rule import rule


@rule(paper="Kingma & Ba 2014, arXiv:1412.6980, Algorithm 1", same_as="torch.optim.Adam")
def adam(p, g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, amsgrad=False):
    """Move each weight by its mean gradient, divided by the root mean square of its gradients.

    m: running mean of g. v: running mean of g squared. v_max: largest v so far, only with amsgrad.
    Departs from the paper: weight_decay is L2, added to the gradient (and so divided by sqrt(v) with it); for decay of
    the weights themselves use AdamW. amsgrad is torch's, with bias corrections; AMSGrad is the paper's.
    Good for: nearly everything, without decay. Bad for: large weight decay, see AdamW.
    """
    if weight_decay:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    if amsgrad:
        v_max = maximum(v_max, v)
    # m_hat / (sqrt(v_hat) + eps) with both corrections moved to the scalars, as at the end of the paper's section 2.
    correction = sqrt(1 - beta2**t)
    alpha = lr * correction / (1 - beta1**t)
    return p - alpha * m / (sqrt(v_max if amsgrad else v) + correction * eps), m, v, v_max
