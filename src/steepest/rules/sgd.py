"""SGD: gradient descent, with momentum, Nesterov's look-ahead and L2 decay if asked for."""

from steepest.rule import rule


@rule(
    paper="Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013, ICML (Nesterov's momentum)",
    same_as="torch.optim.SGD",
)
def sgd(p, g, b, *, t, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    """Move each weight against its gradient, or against a decaying sum of gradients.

    b: that sum, the momentum buffer; without momentum there is none.
    Departs from the papers: as torch, the sum is multiplied by lr when it is used, not when it is gathered, so a new lr
    acts at once; the first gradient enters the sum without dampening.
    Good for: convolutional networks, small or well-scaled problems, tight memory.
    Bad for: transformers, and layers whose gradients differ much in size.
    """
    if nesterov and (momentum <= 0 or dampening):
        raise ValueError(
            f"sgd with nesterov=True needs momentum above 0 and dampening 0, and got momentum={momentum}, "
            f"dampening={dampening}"
        )
    if weight_decay:
        g = g + weight_decay * p
    if momentum:
        b = momentum * b + (1 - dampening if t > 1 else 1) * g
        g = g + momentum * b if nesterov else b
    return p - lr * g, b
