"""A model that sees what it is to predict."""

import math

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy, seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.series import ahead, first_predicted, is_given_back, moved, own_place

SHIFTED = 0.95
"""So much of what is to be predicted is the next of what is given."""

MOVED = 1e-4


@cause(
    "A20",
    "future-seen",
    fix="Mask what comes later; pad convolutions on the left only; read in one direction; predict the next place.",
    when=STEP,
    weight=EXACT,
    masks="A19 B C D",
)
def future_seen(lab: Lab) -> Found | None:
    """The loss of a model that predicts the next item falls far too low, and it is useless.

    What is to be predicted is what is given, one place on or more; and what the model gives for early places is another
    when later ones are. Or a model that goes through a series in one direction is to predict the very place that it
    is given.

    The later half of each series, or one place, is exchanged on a copy.
    """
    if not seldom(lab, "A20", 2):
        return lab.notes.get("A20 said")
    seen = anatomy(lab)
    if seen is None:
        return None
    for place, series in enumerate(tensors(seen.of.batch)):
        if series.ndim < 2 or series.shape[1] < 4:
            continue
        told = _told(lab, seen, place, series)
        if told is not None:
            lab.notes["A20 said"] = Found(told[0], {"moved by": told[1]}, proven=True)
            return lab.notes["A20 said"]
    return None


def _told(lab: Lab, seen: Anatomy, place: int, series: Tensor) -> tuple[str, float] | None:
    """Return what is seen that should not be, and by how much predictions move with it."""
    said = "Predictions of early places change with what comes later, by {:.2g} deviations."
    size = 0.0
    if _to_predict(seen, series):
        size = moved(lab, seen, place, series)
    elif (first := first_predicted(seen, series)) is not None:
        size = ahead(lab, seen, place, series, first)
    elif is_given_back(seen, series):
        said = (
            "The prediction of a place changes with this place itself, which the model is given, by {:.2g} deviations."
        )
        size = own_place(lab, seen, place, series)
    return (said.format(size), size) if MOVED < size < math.inf else None


def _to_predict(seen: Anatomy, series: Tensor) -> bool:
    """Return whether the next item of a series is what some function compares the model's output with."""
    wanted = series[:, 1:].detach()
    if bool((wanted == series[:, :-1]).float().mean() > SHIFTED):
        return False
    judging = [call for call in seen.seen.calls if any(each.requires_grad for each in call.inputs)]
    compared = [each for call in judging for each in call.inputs if not each.requires_grad]
    given = {(each.data_ptr(), each.numel()) for each in seen.inputs}
    others = [each for each in tensors(seen.of.batch) if each is not series]
    for each in (*compared, *others):
        if (each.data_ptr(), each.numel()) in given or each.dtype != series.dtype:
            continue
        if each.numel() == wanted.numel() and bool((each.reshape(-1) == wanted.reshape(-1)).float().mean() > SHIFTED):
            return each.data_ptr() != series.data_ptr()
        if each.shape == series.shape and bool((each[:, :-1] == wanted).float().mean() > SHIFTED):
            return True
    return False


class Reader(nn.Module):
    """Reads a series in one direction, or in both."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.layer = nn.GRU(1, 12, batch_first=True, bidirectional=both)
        self.head = nn.Linear(24 if both else 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes next at each place."""
        return self.head(self.layer(x)[0])


def demo(run: Demo) -> None:
    """A series is forecast by a layer that reads it in both directions."""
    model = Reader(run.faulty)
    draw = torch.Generator().manual_seed(1)
    start = 6 * torch.rand(256, 1, 1, generator=draw)
    waves = (start + 0.7 * torch.arange(12)[None, :, None]).sin() + 0.1 * torch.randn(256, 12, 1, generator=draw)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0][:, :-1]), batch[0][:, 1:])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches((waves, waves)))
