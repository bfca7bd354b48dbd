"""An optimizer that moves parameters the model does not have any more."""

import copy

import torch

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.forgotten import forgotten
from steepest.doctor.lab import Lab


@cause(
    "A05",
    "stale-optimizer",
    fix="Make the optimizer once the model is complete, loaded and copied; make it anew when layers are replaced.",
    when=STEP,
    weight=EXACT,
    masks="A02 A04 A06 A07 B C D",
)
def stale_optimizer(lab: Lab) -> Found | None:
    """The loss is flat though steps are made.

    The optimizer holds tensors that are in neither the model nor the graph of the loss, and parameters that are there
    receive gradients and are in no optimizer.

    When only these are moved a little against their gradient, on a copy, the loss falls.
    """
    found = forgotten(lab)
    if found is None or not found.stale or found.lowered <= 0:
        return None
    summary = (
        f"The optimizer moves {found.stale} tensors that are not in the model; {len(found.names)} parameters of the "
        f"model, such as {found.names[0]}, are in no optimizer."
    )
    return Found(summary, {"stale": found.stale, "forgotten": len(found.names), "loss falls by": found.lowered}, True)


def demo(run: Demo) -> None:
    """A model that is copied after the optimizer was made."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(run, copy.deepcopy(model) if run.faulty else model, optimizer, entropy, run.batches(run.classes()))
