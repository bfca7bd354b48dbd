"""Parameters that are in no optimizer."""

import torch
from torch import nn

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.forgotten import forgotten
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin


@cause(
    "A04",
    "not-in-optimizer",
    fix="Make the optimizer once all layers are there, of model.parameters(); keep layers in nn.ModuleList, no list.",
    when=STEP,
    weight=EXACT,
    masks="A06 A07 B C D",
)
def not_in_optimizer(lab: Lab) -> Found | None:
    """A part of the model never learns; the loss stays above what the model could reach.

    Parameters receive a gradient, are in no optimizer that is alive, and do not move. Layers in a plain list, which
    model.parameters() does not see, are found in the graph of the loss. What looks trained is taken for frozen by
    intention.

    When only they are moved a little against their gradient, on a copy, the loss falls.
    """
    found = forgotten(lab)
    if found is None or found.stale or found.trained or found.lowered <= 0:
        return None
    some = ", ".join(found.names[:3]) + (" ..." if len(found.names) > 3 else "")
    summary = f"{len(found.names)} parameters receive gradients and are in no optimizer: {some}."
    evidence = {"parameters": len(found.names), "in the loss": found.of, "loss falls by": found.lowered}
    return Found(summary, evidence, proven=True, cure=Change("all parameters in the optimizer", prepare=_take_in))


def _take_in(twin: Twin) -> None:
    """Give the optimizer what it does not hold of the model."""
    held = {id(each) for group in twin.optimizer.param_groups for each in group["params"]}
    left = [each for each in twin.model.parameters() if each.requires_grad and id(each) not in held]
    if left:
        twin.optimizer.param_groups[0]["params"] += left


def demo(run: Demo) -> None:
    """A head that is added after the optimizer was made."""
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
    parameters = list(model.parameters())
    model.append(nn.Linear(32, 3))
    optimizer = torch.optim.Adam(parameters if run.faulty else model.parameters(), lr=1e-2)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
