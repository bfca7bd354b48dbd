"""Inputs are far from mean 0 and deviation 1."""

import torch

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.data import Entry, entries, standardised
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.trial import better

LARGE, UNLIKE, OFF = 6.0, 30.0, 5.0
"""Root mean square, ratio of columns' deviations, and mean in deviations, beyond which it is tried."""

FIX = "Standardise each input column by its mean and deviation on the training data, and use the same at test time."
MASKS = "C D B03 B12"


@cause("B02", "raw-inputs", fix=FIX, when=MARK, weight=REPLAYED, masks=MASKS)
def raw_inputs(lab: Lab) -> Found | None:
    """Training is slow or unstable, and only a tiny rate works.

    What enters the first layer, which is no norm, is of large size, or its columns are of very different size, or far
    from zero. A replay of the first steps with each column at mean 0 and deviation 1 gains more.
    """
    return _look(lab) if lab.loss is not None and lab.sick else None


@cause("B02", "raw-inputs", fix=FIX, when=EVENT, weight=REPLAYED, masks=MASKS)
def raw_inputs_blow_up(lab: Lab) -> Found | None:
    """The loss blows up at a rate that would do for inputs of ordinary size.

    As above; and the replay with standardised inputs does not blow up.
    """
    return _look(lab) if lab.loss is not None else None


def _look(lab: Lab) -> Found | None:
    odd = [each for each in entries(lab) if not each.normalised and _is_odd(each)]
    if not odd:
        return None
    told = better(lab, standardised(odd), 0.05)
    if told is None:
        return None
    deviation = odd[0].deviation
    low, high = float(deviation.min()), float(deviation.max())
    summary = (
        f"Inputs are not normalised: root mean square {odd[0].size:.3g}, deviations of columns from {low:.3g} to "
        f"{high:.3g}; with standardised ones the loss is {told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, {"size": odd[0].size, "least": low, "most": high, **told.evidence}, True, cure=told.change)


def _is_odd(entry: Entry) -> bool:
    deviation = entry.deviation
    real = deviation[deviation > 1e-6 * deviation.max()]
    if not len(real) or entry.size > LARGE:
        return entry.size > LARGE
    centre = entry.mean[deviation > 1e-6 * deviation.max()]
    uneven = float(real.max() / real.median()) > UNLIKE or float(real.max() / real.min()) > UNLIKE**1.5
    return (uneven and entry.size > 1) or (float((centre / real).abs().median()) > OFF and entry.size > 0.5)


def demo(run: Demo) -> None:
    """Columns in units from thousandths to thousands."""
    model = run.network()
    x, kinds = run.classes()
    units = torch.tensor([1.0, 2000.0, 0.01, 30.0, 1.0, 400.0, 0.1, 5.0])
    data = (x * units if run.faulty else x), kinds
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), entropy, run.batches(data))
