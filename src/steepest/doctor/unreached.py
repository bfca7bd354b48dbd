"""Parameters that the loss hangs on and that no gradient reaches, and the call that keeps it from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy, current, dissect
from steepest.doctor.lab import Lab
from steepest.doctor.members import copied, fresh, from_scratch, held, unmoved
from steepest.doctor.uncut import Uncut

CUTS = 12
"""Places that are mended one at a time."""


@dataclass
class Unreached:
    """Names of parameters, and what keeps gradients from them: no_grad, or the name of a function; file and line."""

    names: list[str]
    kind: str
    where: str


def unreached(lab: Lab) -> Unreached | None:
    """Return what no gradient reaches now and at the look before; None where nothing is, or it cannot be shown why."""
    if "unreached" not in lab.notes or lab.notes["unreached"][0] != lab.now:
        lab.notes["unreached"] = (lab.now, _found(lab))
    return lab.notes["unreached"][1]


def _found(lab: Lab) -> Unreached | None:
    seen = anatomy(lab)
    if seen is None:
        return None
    own = dict(seen.model.named_parameters())
    real = dict(lab.model.named_parameters())
    in_optimizer = held(lab)
    wanted = {name: own[name] for name, each in real.items() if each.requires_grad and id(each) in in_optimizer}
    gradients = seen.gradients(list(wanted.values()))
    lost = {name for name, g in zip(wanted, gradients, strict=True) if g is None or not bool(g.any())}
    lost = {name for name in lost if _unused(real[name])}
    before: set[str] = lab.notes.get("lost", set())
    lab.notes["lost"] = lost
    lost = lost & before
    lost = {name for name in lost if unmoved(lab, name, real[name]) or gradients[list(wanted).index(name)] is not None}
    if not lost or not (fresh(own[name] for name in lost) or from_scratch(lab, lost)) or copied(lab, lost):
        return None
    known = lab.notes.get("mended")
    if known is None or known[0] != lost:
        lab.notes["mended"] = known = (lost, _mended(lab, seen, lost) if _matters(lab, seen, lost) else None)
    return known[1]


def _unused(parameter: Tensor) -> bool:
    return parameter.grad is None or not bool(parameter.grad.any())


def _matters(lab: Lab, seen: Anatomy, lost: set[str]) -> bool:
    """Return whether the loss is another where these parameters are."""
    of = current(lab)
    if of is None:
        return False
    model = seen.model if not _tied(lab.model) else lab.model
    value = float(lab.ask(model, of).detach())
    with _shaken(model, lost):
        return float(lab.ask(model, of).detach()) != value


@contextmanager
def _shaken(model: nn.Module, names: set[str]) -> Iterator[None]:
    """Put other values in the place of parameters for a while; buffers are put back as well."""
    own = dict(model.named_parameters())
    values = {name: own[name].data for name in names}
    buffers = [(each, each.clone()) for each in model.buffers()]
    try:
        for name, value in values.items():
            own[name].data = value + 0.3 * torch.randn_like(value) * (float(value.float().std(correction=0)) or 1.0)
        yield
    finally:
        for name, value in values.items():
            own[name].data = value
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _tied(model: nn.Module) -> bool:
    """Return whether a module's forward was set on the instance: a copy would call the one of the original."""
    return any("forward" in vars(module) for module in model.modules())


def _mended(lab: Lab, seen: Anatomy, lost: set[str]) -> Unreached | None:
    """Return what stops gradients: the one place where letting them through lets them reach what is lost; else all."""
    everywhere = Uncut()
    if not _reached(lab, seen, lost, everywhere):
        return None
    for where, kind in list(everywhere.cuts.items())[:CUTS]:
        if _reached(lab, seen, lost, Uncut(only=where)):
            return Unreached(sorted(lost), kind, where)
    kinds = sorted(set(everywhere.cuts.values()))
    return Unreached(sorted(lost), kinds[0], next(iter(everywhere.cuts)))


def _reached(lab: Lab, seen: Anatomy, lost: set[str], mode: Uncut) -> bool:
    """Return whether gradients reach most of what is lost when stops are mended."""
    if _tied(lab.model):
        with _shaken(lab.model, set()), mode:
            value = lab.ask(lab.model, seen.of)
        parameters = dict(lab.model.named_parameters())
    else:
        mended = dissect(lab, seen.of, mode=mode)
        value, parameters = mended.value, dict(mended.model.named_parameters())
    if not value.requires_grad:
        return False
    found = torch.autograd.grad(value, [parameters[name] for name in lost], allow_unused=True)
    return sum(each is not None and bool(each.any()) for each in found) > len(lost) / 2
