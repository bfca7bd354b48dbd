"""Micro-batches whose losses are added up at a rate that suits their mean."""

from statistics import median

import torch

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

WORDS = {
    "fix": "Divide each loss by the number of backward passes in an update.",
    "weight": REPLAYED + 0.95,
    "masks": "A10 B02 C D E",
}


@cause("A12", "accumulation-not-divided", when=MARK, **WORDS)
def not_divided(lab: Lab) -> Found | None:
    """Training behaves as if the rate were k times as high, k being the number of micro-batches.

    Each update has several backward passes of undivided losses, and the gradient that is used is their sum.

    The same steps with each loss divided by their number, on a copy, go better.
    """
    return _undivided(lab)


@cause("A12", "accumulation-not-divided", when=EVENT, **WORDS)
def not_divided_blows_up(lab: Lab) -> Found | None:
    """Training behaves as if the rate were k times as high, k being the number of micro-batches.

    Each update has several backward passes of undivided losses, and the gradient that is used is their sum.

    The same steps with each loss divided by their number, on a copy, do not blow up.
    """
    return _undivided(lab)


def _undivided(lab: Lab) -> Found | None:
    counts = [len(update.backwards) for update in lab.history.first if update.backwards]
    told = [each for each in lab.fresh if each.factor is not None and each.cosine > 0.99]
    if len(counts) < 3 or len(told) < 2 or median(counts) < 2:
        return None
    count = int(median(counts))
    factor = median(each.factor or 0.0 for each in told)
    used = median((each.factor or 0.0) * each.ratio for each in told)
    clipped = lab.clip is not None or any(update.clips for update in lab.history.first)
    if abs(factor - 1) > 0.05 or (abs(used - 1) > 0.05 and not clipped):
        return None
    gained = better(lab, Change(f"loss / {count}", loss=lambda value: value / count))
    if gained is None:
        return None
    summary = f"{count} backward passes make an update, and their losses are added up and not divided by {count}."
    return Found(summary, {"backward passes": count, "factor": factor, **gained.evidence}, proven=True)


def demo(run: Demo) -> None:
    """Eight micro-batches make a step at the rate of one batch."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for index, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 24, 16))):
        loss = entropy(model, batch)
        (loss if run.faulty else loss / 8).backward()
        if index % 8 == 7:
            optimizer.step()
            optimizer.zero_grad()
