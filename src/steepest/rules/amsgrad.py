"""AMSGrad: Adam whose step sizes can only shrink."""

from steepest.formula import maximum, sqrt
from steepest.rule import rule


@rule(
    paper="Reddi et al. 2018, arXiv:1904.09237, Algorithm 2",
    same_as="optax.amsgrad(bias_correction_mu=False, bias_correction_nu=False)",
    # Numbers: optax.amsgrad without bias corrections.
    worked=([0.5, -2.0, 0.1], [0.99683772433983, 0.999215385372776, 1.001200540234372]),
)
def amsgrad(p, g, m, v, v_max, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0):
    """Adam that divides by the largest mean square gradient so far, so that no weight's step size ever grows again.

    m: running mean of g. v: running mean of g squared. v_max: largest v so far.
    This is the paper's algorithm, without bias corrections. Adam(amsgrad=True) is torch's form, which has them, and
    takes the largest of the uncorrected v; optax.amsgrad by default takes the largest of the corrected.
    Departs from the paper: eps in the denominator; weight_decay is L2, added to the gradient.
    Good for: problems where Adam circles instead of converging.
    Bad for: long runs whose first gradients are huge, because they are never forgotten.
    """
    if weight_decay:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = maximum(v_max, v)
    return p - lr * m / (sqrt(v_max) + eps), m, v, v_max
