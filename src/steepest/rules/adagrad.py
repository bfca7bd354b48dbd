"""Adagrad: the more a weight has been moved, the smaller its steps."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(paper="Duchi et al. 2011, JMLR 12:2121", same_as="torch.optim.Adagrad")
def adagrad(p, g, s, *, t, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10):
    """Move each weight by its gradient, divided by the root of the sum of squares of all its gradients so far.

    s: that sum of squares, starting at initial_accumulator_value.
    Departs from the paper: eps in the denominator, lr_decay and L2 weight_decay, as torch. optax and TensorFlow start s
    at 0.1.
    Good for: sparse features, convex problems. Bad for: long training of networks, because steps shrink for ever.
    """
    if weight_decay:
        g = g + weight_decay * p
    if initial_accumulator_value and t == 1:
        s = s + initial_accumulator_value
    s = s + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps), s
