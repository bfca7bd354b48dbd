"""Weight decay is where it should not be: in Adam's gradient, or on norms and biases."""

from collections.abc import Sequence

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.causes.d09_decays_weights import NONE, misplaced, without
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change


@cause("D10", "weight-decay-misplaced", fix="Use AdamW, and give norms, biases and embeddings a group without decay.",
       weight=1.92, masks="D01 D02 D03 D09 C12")  # fmt: skip
def decays_the_wrong_ones(lab: Lab) -> Found | None:
    """The loss stops too high, a little or much.

    The same steps, made again without weight decay, get much further; and the decay is of a kind, or of parameters,
    that it is not meant for.
    """
    gained = without(lab)
    where = None if gained is None else misplaced(lab, gained)
    if gained is None or where is None:
        return None
    summary = f"Weight decay is misplaced, for {where}: without it the loss ends at {gained.changed:.3g}."
    return Found(summary, gained.evidence, proven=True)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Decay no weights."""
    return [NONE]


def demo(run: Demo) -> None:
    """Adam with the weight decay of AdamW."""
    model = run.network()
    kind = torch.optim.Adam if run.faulty else torch.optim.AdamW
    optimizer = kind(model.parameters(), lr=1e-2, weight_decay=0.3)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
