"""RAdam: Adam that waits until its mean square can be trusted."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(paper="Liu et al. 2019, arXiv:1908.03265, Algorithm 2", same_as="torch.optim.RAdam")
def radam(
    p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, decoupled_weight_decay=False
):  # fmt: skip
    """Adam whose first steps are plain momentum, and whose next are shortened while v still rests on few gradients.

    m: running mean of g. v: running mean of g squared.
    Departs from the paper: the threshold on rho is 5 (the paper has 4) and eps is added to the uncorrected sqrt(v),
    both as torch.
    Other libraries: pytorch_optimizer by default leaves out the first, unrectified steps altogether.
    Good for: Adam's problems without a warm-up of lr. Bad for: runs that have a warm-up, where it changes little.
    """
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    elif weight_decay:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    alpha = lr / (1 - beta1**t)
    rho_max = 2 / (1 - beta2) - 1
    rho = rho_max - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return p - alpha * m, m, v
    r = sqrt((rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho))
    return p - alpha * r * sqrt(1 - beta2**t) * m / (sqrt(v) + eps), m, v
