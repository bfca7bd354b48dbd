"""A model that sees what it is to predict."""

import math

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy, seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.data import filled
from steepest.doctor.demo import Demo, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Spy
from steepest.doctor.vary import apart, evaluating

SHIFTED = 0.95
"""So much of what is to be predicted is the next of what is given."""

MOVED = 1e-4


@cause(
    "A20",
    "future-seen",
    fix="Mask what comes later, from the next place on; pad convolutions on the left only; read in one direction.",
    when=STEP,
    weight=EXACT,
    masks="A19 B C D",
)
def future_seen(lab: Lab) -> Found | None:
    """The loss of a model that predicts the next item falls far too low, and it is useless.

    What is to be predicted is what is given, one place on; and what the model gives for early places is another when
    later ones are.

    The later half of each series is exchanged on a copy.
    """
    if not seldom(lab, "A20", 2):
        return lab.notes.get("A20 said")
    seen = anatomy(lab)
    if seen is None:
        return None
    for place, series in enumerate(tensors(seen.of.batch)):
        if series.ndim < 2 or series.shape[1] < 4 or not _to_predict(seen, series):
            continue
        moved = _moved(lab, seen, place, series)
        if MOVED < moved < math.inf:
            summary = f"Predictions of early places change with what comes later, by {moved:.2g} deviations."
            lab.notes["A20 said"] = Found(summary, {"moved by": moved}, proven=True)
            return lab.notes["A20 said"]
    return None


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


def _moved(lab: Lab, seen: Anatomy, place: int, series: Tensor) -> float:
    """Return how far what is given for early places moves when the later ones are of another row."""
    at = series.shape[1] // 2
    other = torch.cat([series[:, :at], series[:, at:].roll(1, 0)], 1)
    found = list(tensors(seen.of.batch))
    batch = filled(seen.of.batch, [*found[:place], other, *found[place + 1 :]])
    try:
        first, second = _predictions(lab, seen, seen.of.batch), _predictions(lab, seen, batch)
        again = _predictions(lab, seen, seen.of.batch)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return 0.0
    if apart(first, again) > 0:
        return 0.0
    length = series.shape[1]
    for one, changed in zip(first, second, strict=False):
        if one.ndim > 1 and one.shape == changed.shape and one.shape[0] == len(series):
            if one.shape[1] in (length, length - 1):
                return apart([one[:, :at]], [changed[:, :at]])
            if one.ndim > 2 and one.shape[2] in (length, length - 1):
                return apart([one[:, :, :at]], [changed[:, :, :at]])
    return 0.0


def _predictions(lab: Lab, seen: Anatomy, batch: object) -> list[Tensor]:
    """Return what the model gives, and what criteria are given, in evaluation mode."""
    model, outputs = evaluating(seen), []
    handle = model.register_forward_hook(lambda module, args, output: outputs.extend(tensors(output)))
    with Spy() as spy:
        lab.ask(model, seen.of, batch)
    handle.remove()
    return [each.detach() for each in (*outputs, *(call.prediction for call in spy.seen.criteria))]


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
