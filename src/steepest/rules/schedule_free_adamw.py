"""Schedule-Free AdamW: AdamW at a constant rate with averaging that does what a schedule would."""

from steepest.formula import maximum, sqrt
from steepest.rule import rule


def _mean_point(p, z, *state, beta1, **hyper):
    return p + (1 - beta1) / beta1 * (p - z)


@rule(
    paper="Defazio et al. 2024, arXiv:2405.15682, Algorithm 1",
    same_as="schedulefree.AdamWScheduleFree",
    average=_mean_point,
)
def schedule_free_adamw(
    p, g, z, v, largest: "scalar", weight_sum: "scalar", *, t, lr=2.5e-3, beta1=0.9, beta2=0.999, eps=1e-8,
    weight_decay=0, r=0, weight_lr_power=2,
):  # fmt: skip
    """AdamW without momentum on points z, with gradients taken at p between z and the mean x of all z; x is the result.

    p: the point y = (1 - beta1) z + beta1 x where the gradient is taken. z: the point AdamW has reached. x is
    not kept: it is recovered from p and z. v: running mean of g squared. largest, weight_sum: largest and sum of the
    weights t**r lr**weight_lr_power so far.
    For a warm-up, give lr as a schedule that rises and stays: early steps then count less in x.
    Departs from the authors' code: warm-up is not built in; weights are counted for each tensor, not for a group, so
    that a tensor that joins late starts a mean of its own. Decay is at p, as there by default.
    Good for: runs whose length is not known beforehand. Bad for: batch norm, whose statistics belong to y, not to x.
    """
    if not 0 < beta1 < 1:
        raise ValueError(f"schedule_free_adamw needs beta1 between 0 and 1, both excluded, and got {beta1}")
    if t == 1:
        z = p
    x = p + (1 - beta1) / beta1 * (p - z)  # because p = (1 - beta1) z + beta1 x
    v = beta2 * v + (1 - beta2) * g * g
    correction = sqrt(1 - beta2**t)
    z = z - lr * correction * g / (sqrt(v) + correction * eps) - lr * weight_decay * p
    largest = maximum(largest, lr**weight_lr_power)
    weight = t**r * largest
    weight_sum = weight_sum + weight
    c = weight / maximum(weight_sum, 1e-300)
    x = x + c * (z - x)
    return x + (1 - beta1) * (z - x), z, v, largest, weight_sum
