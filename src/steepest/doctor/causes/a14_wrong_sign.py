"""A loss that is raised."""

import math

import torch

from steepest.doctor.anatomy import anatomy
from steepest.doctor.cause import EVENT, EXACT, MARK, REPLAYED, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.senses import sense, sense_of_squares

AGAINST = -0.995
"""Cosine of gradients that point against each other."""

FAR = 10.0
"""A loss that has fallen to so many times minus what it was has no bottom."""

OTHER = Change("the other sign", loss=lambda value: -value)
FIX = "Propagate the loss itself, not its negative; maximize=False; the negative log-likelihood, not the likelihood."


@cause("A14", "wrong-sign", fix=FIX, when=STEP, weight=EXACT, masks="A18 B C D E")
def wrong_sign(lab: Lab) -> Found | None:
    """The loss rises from the first step, steadily, or falls below all bounds.

    The gradient that is used points against that of the loss; or its negative is propagated, or the optimizer is told
    to maximise, or a rate is negative, and what is raised so is a criterion, or minus log-probabilities.

    The gradient computed anew of the same batches, and that of the loss for the criterion in it, decide.
    """
    last = lab.fresh[-2:]
    if (
        lab.update is None
        or len(last) < 2
        or last[-1].step != lab.update.step
        or not all(each.same_loss for each in last)
    ):
        return None
    turned = [_turns(lab, each.factor or 1.0, each.cosine) for each in last]
    if not all(turned) or turned[0] != turned[1]:
        return None
    seen = anatomy(lab)
    meant = sense(seen) if seen is not None else 0
    if meant == 0 and turned[0] < 0 and seen is not None:
        meant = sense_of_squares(seen)
        meant = 1 if meant == 0 and all(each > 0 for fresh in last for each in fresh.own) else meant
    against = all(each.cosine < AGAINST for each in last)
    if meant * turned[0] >= 0 and not (against and meant == 0):
        return None
    how = "the gradient that is used points against that of its batch" if against else "it is maximised"
    if not against and turned[0] > 0:
        how = "it falls as its criterion rises"
    evidence = {"cosine": last[-1].cosine, "sense": meant}
    return Found(f"The loss has the wrong sign: {how}.", evidence, proven=True, cure=OTHER)


def _turns(lab: Lab, factor: float, cosine: float) -> int:
    """Return 1 where the step lowers loss=, -1 where it raises it, 0 where neither is sure."""
    settings = lab.update.settings if lab.update is not None else []
    signs = {
        (-1 if group.get("maximize") else 1) * (-1 if float(group.get("lr", 0.0)) < 0 else 1) for group in settings
    }
    if len(signs) != 1 or abs(cosine) < -AGAINST:
        return 0
    return signs.pop() * (1 if factor > 0 else -1) * (1 if cosine > 0 else -1)


WORDS = {"fix": FIX, "weight": REPLAYED + 0.95, "masks": "A18 B C D E"}


@cause("A14", "wrong-sign", when=MARK, **WORDS)
def no_bottom(lab: Lab) -> Found | None:
    """The loss rises from the first step, steadily, or falls below all bounds.

    The loss has fallen far below zero, faster and faster, and squares count in it with a minus.

    The same steps with the opposite sign, on a copy, come to rest.
    """
    return _no_bottom(lab)


@cause("A14", "wrong-sign", when=EVENT, **WORDS)
def no_bottom_at_all(lab: Lab) -> Found | None:
    """The loss rises from the first step, steadily, or falls below all bounds.

    The same, when the loss is not finite any more.
    """
    return _no_bottom(lab)


def _no_bottom(lab: Lab) -> Found | None:
    losses = [each for each in lab.history.losses if math.isfinite(each)]
    if len(losses) < 6 or lab.loss is None or not lab.fresh:
        return None
    first, third = losses[0], len(losses) // 3
    if min(losses) > -FAR * max(1.0, abs(first)) or losses[-1] > losses[-third] or losses[third] > first:
        return None
    if losses[-third - 1] - losses[-1] < 2 * (first - losses[third]):
        return None
    turned = lab.replay(OTHER)
    if turned is None or not turned.finite or len(turned.losses) < 6:
        return None
    told = turned.losses
    calm = max(abs(each) for each in told) < FAR * max(1.0, abs(first)) and told[-1] >= told[0] - 0.1 * abs(told[0])
    if not calm:
        return None
    summary = (
        f"The loss falls without end, to {losses[-1]:.2g}; with the opposite sign it comes to rest at {told[-1]:.2g}."
    )
    return Found(summary, {"loss": losses[-1], "with the opposite sign": told[-1]}, proven=True, cure=OTHER)


def demo(run: Demo) -> None:
    """The negative loss is propagated back."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        loss = entropy(model, batch)
        (-loss if run.faulty else loss).backward()
        optimizer.step()
