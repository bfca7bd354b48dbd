"""A loss that is summed over the batch at a rate that suits the mean."""

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.data import mapped, rows
from steepest.doctor.demo import Demo, train
from steepest.doctor.history import Pass
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import Better, better

SAME = 1e-3
"""By such a part the loss of a batch given twice may miss twice the loss."""

WORDS = {
    "fix": "Take the mean over the batch (reduction='mean'), or divide the rate by the batch size.",
    "weight": REPLAYED + 0.9,
    "masks": "B02 C D E",
}


@cause("A10", "summed-loss", when=MARK, **WORDS)
def summed_loss(lab: Lab) -> Found | None:
    """Training works at tiny rates only, and the loss depends on the batch size.

    The loss of a batch given twice over is twice the loss.

    The same steps with the loss divided by the batch size, on a copy, go better.
    """
    return _summed(lab)


@cause("A10", "summed-loss", when=EVENT, **WORDS)
def summed_loss_blows_up(lab: Lab) -> Found | None:
    """Training works at tiny rates only, and the loss depends on the batch size.

    The loss of a batch given twice over is twice the loss.

    The same steps with the loss divided by the batch size, on a copy, do not blow up.
    """
    return _summed(lab)


def _summed(lab: Lab) -> Found | None:
    passes = lab.passes(1)
    size = rows(passes[0].batch) if passes and lab.loss is not None else None
    if size is None or size < 2 or not doubles(lab, passes[0]):
        return None
    gained = _divided(lab, size)
    if gained is None:
        return None
    summary = (
        f"The loss is summed over the batch: given twice, it is twice as large; divided by {size} it learns better."
    )
    return Found(summary, {"batch": size, "loss doubles": "yes", **gained.evidence}, proven=True, cure=gained.change)


def _divided(lab: Lab, size: int) -> Better | None:
    """Return what is gained by dividing by the batch size, or by what else a mean would divide by."""
    calls = [
        call for call in lab.watched(lab.passes(1)[0]).criteria if call.options.get("reduction") in ("sum", "none")
    ]
    counts = {size, *(call.target.numel() for call in calls), *(call.prediction.numel() for call in calls)}
    known: tuple[Change, Better] | None = lab.notes.get("A10")
    for count in sorted(counts)[:3]:
        change = Change(f"loss / {count}", loss=lambda value, by=count: value / by)
        gained = better(lab, change)
        if gained is not None:
            lab.notes["A10"] = (change, gained)
            return gained
    return known[1] if known is not None and _still_ahead(lab, known[0]) else None


def _still_ahead(lab: Lab, change: Change) -> bool:
    """Return whether what was better has less than half of the loss that is left: both fall far below the first one."""
    base, fork = lab.replay(), lab.replay(change)
    return base is not None and fork is not None and fork.finite and not 2 * fork.late() > base.late()


def doubles(lab: Lab, of: Pass) -> bool:
    """Return whether a batch that is given twice over loses twice as much; asked once, without dropout."""
    if "doubles" not in lab.notes:
        model = lab.twin()
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        once = float(lab.ask(model, of).detach())
        try:
            twice = float(lab.ask(model, of, mapped(of.batch, lambda each: torch.cat([each, each]))).detach())
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            twice = once
        lab.notes["doubles"] = once != 0 and abs(twice / once - 2) < SAME
    return lab.notes["doubles"]


def demo(run: Demo) -> None:
    """A summed cross-entropy at the rate of a mean."""
    model = run.network()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        reduction = "sum" if run.faulty else "mean"
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction=reduction)

    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loss, run.batches(run.classes()))
