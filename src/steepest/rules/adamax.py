"""Adamax: Adam with the largest recent gradient in place of the mean square."""

from steepest.formula import maximum
from steepest.rule import rule


@rule(paper="Kingma & Ba 2014, arXiv:1412.6980, Algorithm 2", same_as="torch.optim.Adamax")
def adamax(p, g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0):
    """Move each weight by its mean gradient, divided by the largest of its recent gradients.

    m: running mean of g. u: largest |g|, where older ones count beta2 less each step.
    Departs from the paper: eps is added to |g|, as in torch; weight_decay is L2, added to the gradient.
    Good for: gradients with rare large values, as in embeddings. Bad for: gradients with a single outlier, which
    keeps steps small for about 1 / (1 - beta2) steps.
    """
    if weight_decay:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    u = maximum(beta2 * u, abs(g) + eps)
    return p - lr / (1 - beta1**t) * m / u, m, u
