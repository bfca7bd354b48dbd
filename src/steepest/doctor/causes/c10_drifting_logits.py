"""Logits grow without end."""

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, STATISTIC, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Call
from steepest.doctor.twin import copy_of

OFF, WIDE = 8.0, 30.0
"""Mean of logits, which nothing asks for, and their deviation, beyond which they have drifted."""


@cause(
    "C10",
    "logits-drift",
    fix="Add a z-loss (1e-4 times the squared log-sum-exp), or weight decay of the last layer; no temperature below 1.",
    when=MARK,
    weight=STATISTIC,
    masks="D13 D15",
)
def logits_drift(lab: Lab) -> Found | None:
    """The loss diverges late, at a low rate as well.

    The mean of all logits of a row, on which a cross-entropy does not hang, has gone far from where it was; or logits
    are spread so widely that a wrong one costs dozens, while the loss has not fallen.
    """
    if lab.loss is None or lab.now < 50 or lab.start is None:
        return None
    passes = [each.of for update in lab.history.latest for each in update.backwards][-3:]
    now, before = _logits(lab, lab.twin(), passes), _logits(lab, copy_of(lab.start.model, lab.modes), passes)
    if now is None or before is None or not bool(now.isfinite().all()):
        return None
    middle, start = float(now.mean(1).abs().mean()), float(before.mean(1).abs().mean())
    spread = float(now.std(1).mean())
    if middle > OFF + 2 * start and middle > spread:
        summary = f"The mean of logits has drifted from {start:.3g} to {middle:.3g}; nothing in the loss holds it."
    elif spread > WIDE and spread > 2 * float(before.std(1).mean()) and lab.sick:
        summary = f"Logits have a deviation of {spread:.3g}, and grow, although the loss has hardly fallen."
    else:
        return None
    return Found(summary, {"mean": middle, "mean at the start": start, "deviation": spread})


def _logits(lab: Lab, model: nn.Module, passes: list) -> Tensor | None:  # type: ignore[type-arg]
    found = []
    for of in passes:
        calls: list[Call] = [each for each in lab.watched(of, model).criteria if each.name == "cross_entropy"]
        if not calls or calls[0].prediction.ndim != 2 or calls[0].prediction.shape[1] < 3:
            return None
        found.append(calls[0].prediction.detach().double())
    return torch.cat(found) if found else None


def demo(run: Demo) -> None:
    """A term meant to hold the logits has the wrong sign."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        logits = model(batch[0])
        size = logits.logsumexp(1).clamp(max=40).mean()
        return nn.functional.cross_entropy(logits, batch[1]) + (-0.05 if run.faulty else 1e-4) * size

    model = run.network()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes(), 12))
