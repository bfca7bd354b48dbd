"""Parts of what a model is given that nothing comes of, though layers read them or the rest is to be told from them."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.data import filled
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.vary import noise

SAME = 1e-7
"""Part of the loss by which rounding may change it."""

VARIOUS = 4
"""Symbols that there have to be around holes."""

DRAWS = 4
"""Times that weights are drawn anew: a unit that is silent for one draw speaks for another."""


def redrawn(model: nn.Module) -> Iterator[nn.Module]:
    """Yield copies of a model, each with weights drawn anew."""
    for number in range(DRAWS):
        draw, made = torch.Generator().manual_seed(number), copy.deepcopy(model)
        with torch.no_grad():
            for each in made.parameters():
                if each.requires_grad:
                    width = max(1, each[0].numel() if each.ndim > 1 else 4)
                    each.copy_(torch.randn(each.shape, generator=draw, dtype=each.dtype) / width**0.5)
        yield made


def unread(lab: Lab, seen: Anatomy) -> str:
    """Return what is read by layers and dropped: a tensor that the loss does not hang on, whatever the weights are.

    The layers that read it are trained with the rest, and no gradient reaches them. "" where there is none.
    """
    found = list(tensors(seen.of.batch))
    given = {each.data_ptr() for each in seen.inputs}
    places = [place for place, each in enumerate(found) if each.data_ptr() in given and each.ndim and len(each) > 2]
    for place in places if len(places) > 1 else []:
        names = _readers(seen, found[place])
        others = [found[place].roll(1, 0), noise(found[place], 1.0)]
        if names and _is_for_nothing(lab, seen, place, others):
            return f"Tensor {place} of the batch is read by {names[0]}, and nothing comes of it"
    return ""


def _readers(seen: Anatomy, value: Tensor) -> list[str]:
    """Return the parameters that a tensor meets first, if all are to be trained and no gradient reaches them."""
    names = {id(each): name for name, each in seen.model.named_parameters()}
    own, pointers = {id(value)}, {value.data_ptr()}
    met: dict[int, Tensor] = {}
    for call in seen.seen.calls:
        if any(id(each) in own or each.data_ptr() in pointers for each in call.inputs if each.numel()):
            weights = {id(each): each for each in call.inputs if id(each) in names}
            met |= weights
            own |= set() if weights else {id(each) for each in tensors(call.output)}
    gradients = seen.gradients(list(met.values()))
    silent = all(each is None or not bool(each.any()) for each in gradients)
    return [names[id_] for id_ in met] if silent and all(each.requires_grad for each in met.values()) else []


def holes_only(lab: Lab, seen: Anatomy) -> str:
    """Return that what stands around holes is not looked at, where only what was in them counts; "" where it is not so.

    All places that count hold the same symbol, and others various ones: nothing else tells what was there.
    """
    found = list(tensors(seen.of.batch))
    given = {each.data_ptr() for each in seen.inputs}
    for call in seen.seen.criteria:
        target, ignored = call.target.reshape(-1), call.options.get("ignore_index")
        if call.name not in ("cross_entropy", "nll_loss") or target.is_floating_point() or ignored is None:
            continue
        counts = target != ignored
        for place, each in enumerate(found):
            fits = each.data_ptr() in given and not each.is_floating_point() and each.numel() == target.numel()
            if not fits or not bool(counts.any()) or len(each.reshape(-1)[counts].unique()) > 1:
                continue
            around = each.reshape(-1)[~counts]
            if len(around.unique()) < VARIOUS:
                continue
            other = each.clone().reshape(-1)
            other[~counts] = around[torch.randperm(len(around))]
            if _is_for_nothing(lab, seen, place, [other.reshape(each.shape)]):
                return f"What stands around the places to be filled in tensor {place} of the batch is not looked at"
    return ""


def _is_for_nothing(lab: Lab, seen: Anatomy, place: int, others: list[Tensor]) -> bool:
    """Return whether the loss is the same with others in the place of a tensor, with these weights and with any."""
    found = list(tensors(seen.of.batch))
    for model in (seen.model, *redrawn(seen.model)):
        told = [
            float(lab.ask(model, seen.of, filled(seen.of.batch, [*found[:place], each, *found[place + 1 :]])).detach())
            for each in (found[place], *others)
        ]
        if any(abs(each - told[0]) > SAME * abs(told[0]) for each in told):
            return False
    return True
