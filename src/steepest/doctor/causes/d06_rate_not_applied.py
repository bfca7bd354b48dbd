"""The rate is zero, or warms up without end."""

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.causes.d03_rate_too_low import faster, is_rising
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab

LONG = 4
"""Steps at a rate of zero; the first of a warm-up may well be one."""


@cause(
    "D06", "rate-not-applied", fix="Look at the rate that each group has: print optimizer.param_groups.", when=STEP,
    weight=EXACT, masks="A04 D03 D05 C03",
)  # fmt: skip
def is_zero(lab: Lab) -> Found | None:
    """Nothing moves, or a part of the model does not.

    The groups' own rate is zero in each step from the first one on, and there are gradients.
    """
    if lab.update is None or lab.now < LONG or lab.update.empty:
        return None
    updates = [*lab.history.first[:LONG], *lab.history.latest, lab.update]
    groups = range(len(lab.update.settings))
    still = [k for k in groups if all(k < len(each.rates) and each.rates[k] == 0 for each in updates)]
    still = [k for k in still if _has_gradient(lab, k)]
    if not still:
        return None
    summary = f"The rate of group {', '.join(map(str, still))} of {len(groups)} has been zero in all {lab.now} steps."
    return Found(summary, {"groups": still, "steps": lab.now}, proven=True)


def _has_gradient(lab: Lab, group: int) -> bool:
    parameters = lab.optimizer.param_groups[group]["params"]
    return any(each.grad is not None and bool(each.grad.any()) for each in parameters)


@cause("D06", "rate-not-applied", fix="Shorten the warm-up: it is counted in steps.", weight=1.7, masks="D03 D05 C03")
def warms_up_without_end(lab: Lab) -> Found | None:
    """The loss hardly falls.

    The rate still rises, and at ten to a thousand times as much the same steps get much further.
    """
    found = faster(lab) if is_rising(lab) else None
    if found is None:
        return None
    summary = (
        f"The rate still warms up after {lab.now} steps; at {found[0]:g} times as much the loss falls much further."
    )
    return Found(summary, {"factor": found[0], **found[1]}, proven=True)


def demo(run: Demo) -> None:
    """A warm-up that divides whole numbers."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    shape = (lambda step: step // 1000) if run.faulty else (lambda step: min(1.0, step / 10))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    for batch in run.watch(model, optimizer, entropy, scheduler)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
        scheduler.step()
