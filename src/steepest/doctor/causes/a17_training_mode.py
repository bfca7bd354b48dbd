"""Evaluation in training mode."""

import torch
from torch import nn

from steepest.doctor.cause import EXACT, MARK, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.twin import copy_of

WORDS = {
    "fix": "Call model.eval() before evaluating, and model.train() after.",
    "weight": EXACT,
    "masks": "C07 C08 B10",
}


@cause("A17", "evaluated-in-train-mode", when=MARK, **WORDS)
def evaluated_in_train_mode(lab: Lab) -> Found | None:
    """Validation is noisy and too bad, and depends on the size of its batches.

    The model is called without gradients outside of the loop in training mode, and never in evaluation mode, and it has
    dropout or batch norm.

    What it was called with gives something else in evaluation mode.
    """
    return _evaluated(lab)


@cause("A17", "evaluated-in-train-mode", when=STEP, **WORDS)
def evaluated_in_train_mode_just_now(lab: Lab) -> Found | None:
    """Validation is noisy and too bad, and depends on the size of its batches.

    The same, at the first steps after an evaluation.
    """
    return _evaluated(lab)


def _evaluated(lab: Lab) -> Found | None:
    tap = lab.tap
    elsewhere = tap.grammar.elsewhere
    if not elsewhere[True] or elsewhere[False] or tap.without_gradient[False] or not _depends(lab.model):
        return None
    if tap.grammar.repeated >= 4:
        return None
    differs = _differs(lab)
    if differs is None or differs < 1e-3:
        return None
    summary = (
        f"The model was evaluated {elsewhere[True]} times, always in training mode: outputs differ by {differs:.1%}."
    )
    where = tap.grammar.places.get("evaluation True", "")
    return Found(summary, {"passes": elsewhere[True], "differ by": differs}, proven=True, where=where)


def _depends(model: nn.Module) -> bool:
    """Return whether something in the model is another in training mode."""
    return any(
        (isinstance(each, nn.modules.dropout._DropoutNd) and each.p > 0)
        or (isinstance(each, nn.modules.batchnorm._BatchNorm) and each.track_running_stats)
        or (isinstance(each, nn.RNNBase | nn.MultiheadAttention) and float(getattr(each, "dropout", 0)) > 0)
        for each in model.modules()
        if each.training
    )


def _differs(lab: Lab) -> float | None:
    """Return by what part of their deviation outputs differ between the modes, None where the model cannot be asked."""
    modes = lab.modes or [each.training for each in lab.model.modules()]
    outputs = []
    for modes_now in (modes, [False] * len(modes)):
        model = copy_of(lab.model, modes_now)
        with torch.no_grad():
            try:
                outputs.append([each.float() for each in tensors(model(*lab.tap.looked_at))])
            except (RuntimeError, ValueError, TypeError):
                return None
    if not outputs[0] or any(a.shape != b.shape for a, b in zip(*outputs, strict=True)):
        return None
    one, other = outputs[0][0], outputs[1][0]
    return float((one - other).abs().mean() / (other.std() + 1e-12)) if other.numel() > 1 else None


def demo(run: Demo) -> None:
    """A loop that validates with dropout."""
    model = run.network(wide=64)
    model.insert(2, nn.Dropout(0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = run.classes()
    doctor = run.watch(model, optimizer, entropy)
    for _ in range(4):
        model.train()
        for batch in doctor(run.batches(data, 1)):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
        model.train(run.faulty)
        with torch.no_grad():
            entropy(model, data)
