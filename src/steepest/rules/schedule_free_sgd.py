"""Schedule-Free SGD: a constant rate with averaging that does what a schedule would."""

from steepest.formula import maximum
from steepest.rule import rule


def _mean_point(p, z, *state, momentum, **hyper):
    return p + (1 - momentum) / momentum * (p - z)


@rule(
    paper="Defazio et al. 2024, arXiv:2405.15682, equations 1-3",
    same_as="schedulefree.SGDScheduleFree",
    average=_mean_point,
)
def schedule_free_sgd(
    p, g, z, largest: "scalar", weight_sum: "scalar", *, t, lr=1.0, momentum=0.9, weight_decay=0, r=0, weight_lr_power=2
):  # fmt: skip
    """SGD on points z, with gradients taken at p between z and the mean x of all z; x is the result.

    p: the point y = (1 - momentum) z + momentum x where the gradient is taken. z: the point plain SGD has reached. x is
    not kept: it is recovered from p and z. largest, weight_sum: largest and sum of the weights
    t**r lr**weight_lr_power so far.
    For a warm-up, give lr as a schedule that rises and stays: early steps then count less in x.
    Departs from the authors' code: warm-up is not built in; weights are counted for each tensor, not for a group, so
    that a tensor that joins late starts a mean of its own.
    Good for: runs whose length is not known beforehand. Bad for: batch norm, whose statistics belong to y, not to x.
    """
    if not 0 < momentum < 1:
        raise ValueError(f"schedule_free_sgd needs momentum between 0 and 1, both excluded, and got {momentum}")
    if t == 1:
        z = p
    if weight_decay:
        g = g + weight_decay * p
    x = p + (1 - momentum) / momentum * (p - z)  # because p = (1 - momentum) z + momentum x
    z = z - lr * g
    largest = maximum(largest, lr**weight_lr_power)
    weight = t**r * largest
    weight_sum = weight_sum + weight
    c = weight / maximum(weight_sum, 1e-300)
    x = x + c * (z - x)
    return x + (1 - momentum) * (z - x), z, largest, weight_sum
