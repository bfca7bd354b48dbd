"""A guard leaves out most steps: its bound is for another model."""

import math

import torch

from steepest.doctor.cause import EXACT, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import apart
from steepest.doctor.lab import FORK, Lab
from steepest.doctor.replay import Change, replay

SHARE, FEW, KINDS = 0.3, 10, 3
"""Part of the updates that is left out, and how many; between so many different numbers of batches steps are made: who
steps by plan, as two players in turn, does so at even distances."""

BY = 0.05
"""Part of the scale of the loss that is gained where none is left out."""


@cause("D08", "steps-left-out", fix="Raise the bound above which a step is left out: a few in a thousand may be.",
       weight=EXACT, masks="A02 A03 A12 A13 D E02")  # fmt: skip
def steps_left_out(lab: Lab) -> Found | None:
    """The loss falls slowly, or not at all, and most batches leave no trace.

    Gradients of many batches are finite and cleared unused, and in between steps are made at uneven distances.

    The same batches, each with its step, on a copy, get further than the run has.
    """
    grammar = lab.tap.grammar
    left_out = grammar.skipped + grammar.lost
    if left_out < FEW or left_out < SHARE * (left_out + lab.now) or len(grammar.gaps) < KINDS or lab.loss is None:
        return None
    updates = apart(lab.history.first)[:FORK]
    if lab.start is None or lab.scale is None or not all(math.isfinite(each.loss) for each in updates):
        return None
    every = replay(lab.start, updates, lab.loss, lab.way, Change("a step for each batch"))
    gained = lab.late() - every.late()
    if not math.isfinite(gained) or gained < BY * lab.scale:
        return None
    summary = (
        f"{left_out} of {left_out + lab.now} updates were left out, though their losses are finite; with a step for "
        f"each of the first {len(updates)} batches the loss is at {every.late():.3g}, and not at {lab.late():.3g}."
    )
    evidence = {"left out": left_out, "made": lab.now, "loss as it was": lab.late(), "loss with them": every.late()}
    return Found(summary, evidence, proven=True, where=grammar.places.get("backward", ""))


def demo(run: Demo) -> None:
    """A step is left out where the gradient is longer than a bound that few are below."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    bound = 0.4 if run.faulty else 1e3
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        if torch.nn.utils.get_total_norm([each.grad for each in model.parameters() if each.grad is not None]) < bound:
            optimizer.step()
