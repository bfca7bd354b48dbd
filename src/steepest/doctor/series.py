"""Series that a model is to go on with: what of them it is to predict, and what its predictions hang on."""

import torch
from torch import Tensor

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.data import filled
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Spy
from steepest.doctor.vary import apart, evaluating


def moved(lab: Lab, seen: Anatomy, place: int, series: Tensor) -> float:
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


def first_predicted(seen: Anatomy, series: Tensor) -> int | None:
    """Return the first place that is predicted, where a criterion is given all places of a series from there on.

    None unless the model is given the first places and not the last one, so that it could be asked to go on.
    """
    length = series.shape[1]
    given = [each for each in seen.inputs if _is_part(each, series, slice(0, each.shape[1] if each.ndim > 1 else 0))]
    if not given or any(each.shape[1] >= length for each in given):
        return None
    for call in seen.seen.criteria:
        target, count = call.target, call.target.shape[1] if call.target.ndim > 1 else 0
        fits = call.prediction.shape == target.shape and 1 < count < length
        if fits and _is_part(target, series, slice(length - count, length)):
            return length - count
    return None


def _is_part(value: Tensor, series: Tensor, places: slice) -> bool:
    """Return whether a tensor is just these places of a series."""
    part = series[:, places]
    return value.ndim > 1 and value.shape == part.shape and part.shape[1] > 1 and bool((value == part).all())


def ahead(lab: Lab, seen: Anatomy, place: int, series: Tensor, first: int) -> float:
    """Return how far predictions of places up to the middle of those predicted move with what is there and later."""
    at = (first + series.shape[1]) // 2
    pairs = _pairs(lab, seen, place, torch.cat([series[:, :at], series[:, at:].roll(1, 0)], 1))
    early = slice(0, at - first + 1)
    own = [(a, b) for a, b in pairs if a.ndim > 1 and a.shape[:2] == (len(series), series.shape[1] - first)]
    return max((apart([a[:, early]], [b[:, early]]) for a, b in own), default=0.0)


def is_given_back(seen: Anatomy, series: Tensor) -> bool:
    """Return whether the model is given a series of symbols, and a criterion the same one as what is to be predicted.

    One that is given nothing else, and sees all places, is made to give back what it is given.
    """
    if series.is_floating_point() or series.ndim != 2:
        return False
    targets = [call.target for call in seen.seen.criteria if call.name in ("cross_entropy", "nll_loss")]
    return any(_same(each, series) for each in seen.inputs) and any(_same(each, series) for each in targets)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and bool((one.reshape(-1) == other.reshape(-1)).all())


def own_place(lab: Lab, seen: Anatomy, place: int, series: Tensor) -> float:
    """Return how far the prediction of a place moves with it, where those of later ones do, and of earlier ones do not.

    A prediction that hangs on all places is made from a summary of them, as in an autoencoder; one that hangs on no
    other place is no matter of order.
    """
    at = series.shape[1] // 2
    changed = series.clone()
    changed[:, at] = series[:, at].roll(1, 0)
    for one, other in _pairs(lab, seen, place, changed):
        if one.ndim > 2 and one.shape[:2] == series.shape:
            parts = (slice(0, at), slice(at, at + 1), slice(at + 1, None))
            before, own, after = (apart([one[:, part]], [other[:, part]]) for part in parts)
            return own if before == 0 and after > 0 else 0.0
    return 0.0


def _pairs(lab: Lab, seen: Anatomy, place: int, other: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return what is predicted, and what is when another series is there; none where that is left to chance."""
    found = list(tensors(seen.of.batch))
    batch = filled(seen.of.batch, [*found[:place], other, *found[place + 1 :]])
    try:
        first, second = _predictions(lab, seen, seen.of.batch), _predictions(lab, seen, batch)
        again = _predictions(lab, seen, seen.of.batch)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return []
    if apart(first, again) > 0:
        return []
    return [(a, b) for a, b in zip(first, second, strict=False) if a.shape == b.shape]
