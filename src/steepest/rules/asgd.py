"""ASGD: stochastic gradient descent whose result is the mean of the weights it passed through."""

from steepest.rule import rule


def _mean_weights(p, ax, **hyper):
    return ax


@rule(
    paper="Polyak & Juditsky 1992, SIAM J. Control Optim. 30:838; the rates of Xu 2011, arXiv:1107.2490",
    same_as="torch.optim.ASGD",
    average=_mean_weights,
)
def asgd(p, g, ax, *, t, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0):
    """Gradient descent with a slowly falling rate, and beside it the mean of all weights from step t0 on.

    ax: mean of the weights after step t0, until then the weights themselves: the point to evaluate at.
    lambd: decay of the weights. alpha: how fast the rate falls.
    Departs from torch: with a schedule of lr, torch uses the lr of the step before. (And it keeps the rate in float32.)
    Good for: convex problems, a noisy end of training. Bad for: anything, if t0 is never reached (1e6 steps).
    """
    if weight_decay:
        g = g + weight_decay * p
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    mu = 1 / max(1, t - 1 - t0)
    p = p * (1 - lambd * eta) - eta * g
    ax = p if mu == 1 else ax + mu * (p - ax)
    return p, ax
