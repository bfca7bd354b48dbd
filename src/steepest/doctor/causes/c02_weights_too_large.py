"""The first weights are too large."""

import torch
from torch import nn

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import Start, starting
from steepest.doctor.redrawn import rescaled
from steepest.doctor.trial import better

FIX = "Draw weights with deviation 1 / sqrt(inputs) (kaiming, xavier), embeddings about 0.02 to 1."

USUAL = 1.6
"""Deviation of weights, in units of one over the root of the inputs, up to which some law draws them."""

MASKS = "C05 C06 C09 C10 D"

LARGE, HUGE = 2.6, 2.0
"""Gain of a layer's weights, and the first loss over that of the best constant."""


@cause("C02", "first-weights-too-large", fix=FIX, when=MARK, weight=REPLAYED, masks=MASKS)
def weights_too_large(lab: Lab) -> Found | None:
    """The first loss is huge; then it falls slowly, or the units are at their ends.

    Weights of the start are several times larger than what keeps numbers at their size, or the first loss is many
    times that of a constant. A replay from weights that are scaled so that each layer gives numbers of size 1 gains
    more.
    """
    return _look(lab) if lab.loss is not None and (lab.sick or _huge(lab)) else None


@cause("C02", "first-weights-too-large", fix=FIX, when=EVENT, weight=REPLAYED, masks=MASKS)
def weights_blow_up(lab: Lab) -> Found | None:
    """The loss blows up within the first steps.

    As above; and the replay from scaled weights does not blow up.
    """
    return _look(lab) if lab.loss is not None else None


def _huge(lab: Lab) -> bool:
    return lab.constant is not None and lab.history.losses[0] > 3 * max(lab.constant, 1e-6)


def _look(lab: Lab) -> Found | None:
    start = starting(lab)
    if start is None or start.radius > 1.3 or not (is_large(start) or (_huge(lab) and start.largest > 1.5)):
        return None
    told = better(lab, rescaled(lab)) if _any_larger(lab) else None
    if told is None:
        return None
    summary = (
        f"The first weights are too large: they multiply by up to {start.largest:.3g}; with each layer scaled to keep "
        f"numbers at their size the loss is {told.changed:.3g} where it is {told.base:.3g}."
    )
    evidence = {"gain": start.largest, "first loss": lab.history.losses[0], **told.evidence}
    return Found(summary, evidence, True, cure=told.change)


def _any_larger(lab: Lab) -> bool:
    """Return whether any weights are larger than what is drawn by any usual law, of torch's layers or of papers.

    In units of one over the root of the inputs these are 0.6 (torch) and 1.4 (He et al. 2015), of embeddings 1.
    """
    for module in (lab.start.model if lab.start is not None else lab.model).modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim < 2:
                continue
            known = isinstance(module, nn.Linear | nn.RNNBase | nn.modules.conv._ConvNd)
            inputs = weight[0].numel() if known else min(weight.shape[-2:])
            inputs = 1 if isinstance(module, nn.Embedding | nn.EmbeddingBag) else inputs
            if float(weight.detach().float().std(correction=0)) * inputs**0.5 > USUAL:
                return True
    return False


def is_large(start: Start) -> bool:
    """Return whether weights are larger than any usual way of drawing them makes them."""
    return start.largest > LARGE or (bool(start.spreads) and max(start.spreads) > 30)


def demo(run: Demo) -> None:
    """Weights of unit deviation, whatever the number of inputs."""
    model = run.network()
    for layer in model:
        if run.faulty and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=2.0)
    train(run, model, torch.optim.Adam(model.parameters(), lr=5e-3), entropy, run.batches(run.classes(), 4))
