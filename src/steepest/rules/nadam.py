"""NAdam: Adam with Nesterov's look-ahead."""

from steepest.formula import sqrt
from steepest.rule import rule


@rule(paper="Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ", same_as="torch.optim.NAdam")
def nadam(
    p, g, m, v, gone: "scalar", *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, momentum_decay=4e-3,
    decoupled_weight_decay=False,
):  # fmt: skip
    """Adam that already counts the gradient's share in the next step's momentum.

    m: running mean of g. v: running mean of g squared. gone: 1 - mu_1 mu_2 ... mu_t, which corrects the bias of a
    momentum mu that grows towards beta1.
    Departs from the paper: m is averaged with beta1 and only used with mu; the mean square is not multiplied by beta2
    once more; both as torch (which keeps the product in float32). optax and timm's NAdamW have no schedule of mu.
    Good for: Adam's problems where it is a little slow. Bad for: nothing that Adam is not.
    """
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    elif weight_decay:
        g = g + weight_decay * p
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    gone = 1 - mu * (1 - gone)
    gone_next = 1 - mu_next * (1 - gone)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_bar = (1 - mu) / gone * g + mu_next / gone_next * m
    correction = sqrt(1 - beta2**t)
    return p - lr * correction * m_bar / (sqrt(v) + correction * eps), m, v, gone
