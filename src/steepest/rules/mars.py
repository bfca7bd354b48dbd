"""MARS: AdamW on gradients corrected by how they changed since the step before."""

from steepest.formula import maximum, norm, sqrt
from steepest.rule import rule


@rule(
    paper="Yuan et al. 2024, arXiv:2411.10438, MARS-AdamW, approximate form",
    same_as="pytorch_optimizer.MARS(optimize_1d=True)",
    # Numbers: its authors' code, AGI-Arena/MARS, with optimize_1d=True.
    worked=([0.5, -2.0, 0.1], [0.997000000040678, 0.997523823070679, 0.996707274647349]),
)
def mars(p, g, m, v, prev, *, t, lr=3e-3, beta1=0.95, beta2=0.99, gamma=0.025, eps=1e-8, weight_decay=0):
    """AdamW on g + gamma beta1 / (1 - beta1) (g - prev), which for each tensor is at most 1 long.

    m: running mean of the corrected gradient. v: of its square. prev: the gradient before, 0 at first.
    Departs from the paper: the gradient before is that of the batch before, not taken anew on this batch (the paper's
    approximate form, the default of its authors' code). Vectors are treated as matrices; the code gives them to AdamW.
    Other libraries: timm takes the plain gradient in step 1, and other betas; pytorch_optimizer adds 1e-15 inside the
    root, and eps before the bias correction.
    Good for: pretraining of transformers. Bad for: gradients with much noise and little drift.
    """
    c = g + gamma * beta1 / (1 - beta1) * (g - prev)
    c = 1 / maximum(norm(c), 1) * c
    m = beta1 * m + (1 - beta1) * c
    v = beta2 * v + (1 - beta2) * c * c
    p = p * (1 - lr * weight_decay)
    correction = sqrt(1 - beta2**t)
    return p - lr * correction / (1 - beta1**t) * m / (sqrt(v) + correction * eps), m, v, g
