"""Other first weights in a replay, and units that do not die: what shows that a run began badly."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from steepest.doctor.data import NORMS
from steepest.doctor.history import Pass
from steepest.doctor.lab import Lab
from steepest.doctor.layers import FLAT, WEIGHTED, spread, starting
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin, set_modes

LEAK = 0.1
"""Slope below zero."""


def redrawn(names: Sequence[str] = ()) -> Change:
    """Return the change that begins with weights as torch draws them. names: of parameters, whose layers alone are."""

    def prepare(twin: Twin) -> None:
        torch.manual_seed(0)
        wanted = {name.rpartition(".")[0] for name in names}
        for name, module in twin.model.named_modules():
            reset = _reset_of(module)
            if reset is not None and (not names or name in wanted):
                reset()

    return Change(f"first weights drawn anew {','.join(names)}".rstrip(), prepare=prepare)


def is_smaller(lab: Lab) -> bool:
    """Return whether a matrix began with less than half the size that torch gives it."""
    if lab.start is None:
        return False
    with torch.random.fork_rng(devices=[]):
        twin = lab.start.copy()
        redrawn().prepare(twin)
    usual = {name: float(each.detach().square().mean()) for name, each in twin.model.named_parameters()}
    own = [(name, each.detach()) for name, each in lab.start.model.named_parameters() if each.ndim > 1]
    return any(4 * float(each.square().mean()) < usual[name] for name, each in own)


def _reset_of(module: nn.Module) -> Any:
    found = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return found if callable(found) else None


def leaking() -> Change:
    """Return the change in which ReLUs let a little through below zero, so that none is dead."""
    return Change("units that leak", inside=_Leaking)


def damped(lab: Lab) -> Change:
    """Return the change in which each of many layers, but the first and the last, adds a share of what it did."""
    start = starting(lab)
    names = [] if start is None else start.order[1:-1]

    def prepare(twin: Twin) -> None:
        modules = dict(twin.model.named_modules())
        for name in names:
            modules[name].register_forward_hook(_part_of(1 / len(names)))

    return Change("layers damped", prepare=prepare)


def _part_of(share: float) -> Callable[..., Any]:
    return lambda module, inputs, output: output * share if isinstance(output, Tensor) else None


class _Leaking(TorchFunctionMode):
    """Puts a leaky ReLU in the place of each ReLU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in FLAT and args:
            return functional.leaky_relu(args[0], LEAK)
        return func(*args, **(kwargs or {}))


def rescaled(lab: Lab, size: float = 1.0) -> Change:
    """Return the change that begins with weights with which every layer gives numbers of this spread, and mean 0.

    What is not trained stays: it was brought along, and no step has spoilt it.
    """
    of = lab.passes(1)[0]
    return Change(f"first weights rescaled to {size:.2g}", prepare=lambda twin: _rescale(lab, twin, of, size))


@torch.no_grad()
def _rescale(lab: Lab, twin: Twin, of: Pass, size: float) -> None:
    draw = torch.Generator().manual_seed(0)
    start = starting(lab)
    for name, module in twin.model.named_modules():
        _fresh(module, draw, start is not None and name in start.recurrent)
    modules: list[nn.Module] = []
    handles = [m.register_forward_hook(_order_into(modules)) for m in twin.model.modules() if isinstance(m, WEIGHTED)]
    modes = [each.training for each in twin.model.modules()]
    with torch.enable_grad():
        lab.ask(twin.model, of)
    for handle in handles:
        handle.remove()
    for module in modules:
        _scale(lab, twin, of, module, 0.0 if module is modules[-1] else size)
    set_modes(twin.model, modes)


def _fresh(module: nn.Module, draw: torch.Generator, recurrent: bool) -> None:
    """Draw weights anew where all rows are alike, and where none can be scaled to be right."""
    recurrent = recurrent or isinstance(module, nn.RNNBase | nn.RNNCellBase)
    for name, value in module.named_parameters(recurse=False):
        rows = value.reshape(len(value), -1) if value.ndim > 1 else None
        if not value.requires_grad:
            continue
        if isinstance(module, NORMS) or (rows is None and isinstance(module, nn.RNNBase | nn.RNNCellBase)):
            value.fill_(1.0 if name == "weight" else 0.0)
        elif rows is not None:
            size = float(rows.square().mean().sqrt()) * math.sqrt(rows.shape[1])
            odd = size > 3 or size < 0.1
            alike = len(rows) > 1 and rows.shape[1] > 1 and bool((rows == rows[0]).all())
            if isinstance(module, nn.Embedding):
                if alike or float(value.std()) > 2:
                    value.copy_(torch.randn(value.shape, generator=draw).to(value) * (0.3 if alike else 1.0))
            elif alike or recurrent or (odd and not isinstance(module, WEIGHTED)):
                value.copy_(torch.randn(value.shape, generator=draw).to(value) / math.sqrt(rows.shape[1]))


def _order_into(modules: list[nn.Module]) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if module not in modules:
            modules.append(module)

    return note


def _scale(lab: Lab, twin: Twin, of: Pass, module: nn.Module, size: float) -> None:
    """Give what a layer makes a spread of this size; 0: of the last one, which is brought down to 1 at most."""
    last = size == 0
    if not module.get_parameter("weight").requires_grad:
        return
    made: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, output: made.append(output.detach()))
    with torch.enable_grad():
        lab.ask(twin.model, of)
    handle.remove()
    now = spread(made[0], module) if made and made[0].ndim > 1 else 0.0
    weight, bias = module.get_parameter("weight"), dict(module.named_parameters()).get("bias")
    if not math.isfinite(now) or now <= 0 or (last and now < 1):
        return
    weight.mul_((size or 1.0) / now)
    if bias is not None:
        value = made[0].movedim(1, -1) if isinstance(module, nn.modules.conv._ConvNd) else made[0]
        middle = (value.reshape(-1, value.shape[-1]).mean(0) - bias) * (size or 1.0) / now
        bias.copy_(-middle if not last and len(middle) == len(bias) else torch.zeros_like(bias))
