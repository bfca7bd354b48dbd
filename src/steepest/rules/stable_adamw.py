"""StableAdamW: AdamW that shortens its step when gradients outgrow their mean square."""

from steepest.formula import maximum, rms, sqrt
from steepest.rule import rule


@rule(
    paper="Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2",
    same_as="pytorch_optimizer.StableAdamW",
    # Numbers: optimi with eps=1e-8.
    worked=([0.5, -2.0, 0.1], [0.99899000002, 0.999390597301146, 0.999781734123777]),
)
def stable_adamw(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.01):
    """AdamW whose lr, for each tensor, is divided by the root mean square of g / sqrt(v) where that is above 1.

    m, v: running means of g and g squared, kept corrected for their start.
    Departs from the paper: nowhere; of libraries, pytorch_optimizer and optimi agree (optimi's eps is 1e-6).
    Good for: loss spikes, training without gradient clipping. Bad for: nothing that AdamW is not.
    """
    beta1 = beta1 * (1 - beta1 ** (t - 1)) / (1 - beta1**t)
    beta2 = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    lr = lr / maximum(1, rms(g / maximum(sqrt(v), eps)))
    return p * (1 - lr * weight_decay) - lr * m / (sqrt(v) + eps), m, v
