"""Epsilon outweighs the root of the second moment, so that Adam steps like plain descent at a tiny rate."""

from collections.abc import Sequence

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

USUAL = 1e-8
TINY = 1e-16
"""For losses whose gradients are below the usual one."""

OUTWEIGHS = 1.0
"""Epsilon over the root mean square of a tensor's gradient, in the median of tensors."""


@cause("D14", "epsilon-too-large", fix="Set eps to 1e-8; where gradients are smaller than that, multiply the loss.",
       weight=1.9, masks="D03 C03")  # fmt: skip
def outweighs(lab: Lab) -> Found | None:
    """The loss falls slowly under Adam, as if the rate were far too low.

    eps is larger than the gradients that it is added to, and with a smaller one the same steps get much further.
    """
    eps = max((group.get("eps", 0.0) or 0.0 for group in lab.optimizer.param_groups), default=0.0)
    if lab.event is not None or not lab.sick or isinstance(eps, tuple) or eps <= 0 or not lab.fresh:
        return None
    size = _size(lab)
    if eps < OUTWEIGHS * size:
        return None
    small = _small(size)
    found = better(lab, _with(small))
    if found is None:
        return None
    summary = (
        f"eps of {eps:g} outweighs the gradients, whose root mean square is {size:.2g}: with {small:g} the loss ends "
        f"at {found.changed:.3g} after {found.steps} steps made again, and not at {found.base:.3g}."
    )
    return Found(summary, {"eps": eps, "gradient": size, **found.evidence}, proven=True)


def _size(lab: Lab) -> float:
    """Return the root mean square of the first gradient."""
    return lab.fresh[0].length / max(1, sum(each.numel() for each in lab.stepped())) ** 0.5


def _small(size: float) -> float:
    return USUAL if size > 10 * USUAL else TINY


def _with(eps: float) -> Change:
    return Change(f"eps of {eps:g}", settings={"eps": eps})


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Take an epsilon that is small beside the gradients."""
    return [_with(_small(_size(lab)))]


def demo(run: Demo) -> None:
    """Adam with an epsilon of ten."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, eps=10.0 if run.faulty else 1e-8)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
