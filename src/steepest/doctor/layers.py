"""What layers do with numbers: how they spread at the start, and which units are dead or at an end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steepest.doctor.history import Pass
from steepest.doctor.lab import Lab
from steepest.doctor.twin import copy_of

FLAT = {"relu": 0.0, "relu_": 0.0, "relu6": 0.0}
ENDS = {"tanh": (0.99, 0.0), "sigmoid": (0.49, 0.5), "hardsigmoid": (0.49, 0.5), "hardtanh": (0.99, 0.0)}
"""Function -> distance from its middle beyond which it is at an end, and its middle."""

TIMES = 4
"""So often in one pass is a layer called that goes from time to time."""

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)


@dataclass
class Units:
    """Units behind one call of an activation. active: whether each ever was; ends: share of values at an end."""

    function: str
    active: Tensor
    ends: float

    @property
    def dead(self) -> float:
        """Share of units that were never active."""
        return 1 - float(self.active.double().mean())


class _Activations(TorchFunctionMode):
    """Notes for each activation function, by the order of calls, what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Units] = []
        self.place = 0
        self._made: dict[int, str] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        given = args[0] if args and isinstance(args[0], Tensor) else None
        channels = given is not None and self._made.get(id(given), "") == "conv1d"
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self._made[id(output)] = "conv1d" if name == "conv1d" or (channels and "norm" in name) else name
        if (name in FLAT or name in ENDS) and isinstance(output, Tensor) and output.ndim:
            self._note(name, output.detach(), channels)
        return output

    def _note(self, name: str, output: Tensor, channels: bool) -> None:
        output = output[:, None] if output.ndim == 1 else output
        axis = 1 if output.ndim > 3 or (channels and output.ndim == 3) else output.ndim - 1
        values = output.movedim(axis, -1).reshape(-1, output.shape[axis])
        active, ends = (values != 0).any(0), 0.0
        if name in ENDS:
            far, middle = ENDS[name]
            ends = float(((values - middle).abs() > far).double().mean())
        if self.place < len(self.found) and len(self.found[self.place].active) == len(active):
            known = self.found[self.place]
            known.active, known.ends = known.active | active, 0.8 * known.ends + 0.2 * ends
        elif self.place == len(self.found):
            self.found.append(Units(name, active, ends))
        self.place += 1


def activity(lab: Lab, model: nn.Module, passes: Sequence[Pass]) -> list[Units]:
    """Return what the activations of a copy do on several batches."""
    mode = _Activations()
    for of in passes:
        mode.place = 0
        with mode:
            lab.ask(model, of)
    return mode.found


@dataclass
class Start:
    """How a model began. order: of its layers, as they are called. spreads: of what each gives, from row to row.

    largest, least: gain of a layer's weights, 1 where they keep the size of their input. radius: the largest factor of
    a recurrent matrix. recurrent: layers that are given what they gave before. same: tensors whose rows are alike.
    units: of activations. gates: share of recurrent gates that are at an end. slope: gradient of the first weights over
    that of the last ones, by the size of the weights.
    """

    order: list[str] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    largest: float = 0.0
    least: float = math.inf
    radius: float = 0.0
    recurrent: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    units: list[Units] = field(default_factory=list)
    gates: float = 0.0
    slope: float = 1.0


def starting(lab: Lab) -> Start | None:
    """Return how the model began, None where that is not known; asked once."""
    if "start" not in lab.notes:
        lab.notes["start"] = _starting(lab) if lab.start is not None and lab.passes(1) else None
    return lab.notes["start"]


def _starting(lab: Lab) -> Start:
    assert lab.start is not None
    model = copy_of(lab.start.model, lab.modes)
    found = Start()
    order: list[tuple[str, nn.Module, float, Tensor | None]] = []
    handles = [module.register_forward_hook(_spread_into(order, name)) for name, module in _weighted(model)]
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    squares = [(n, m) for n, m in _weighted(model) if isinstance(m, nn.Linear) and m.in_features == m.out_features]
    handles += [module.register_forward_hook(_calls_into(calls.setdefault(name, []))) for name, module in squares]
    value = lab.ask(model, lab.passes(1)[0])
    for handle in handles:
        handle.remove()
    found.recurrent = [name for name, some in calls.items() if _feeds_itself(some)]
    found.order = [name for name, *_ in order]
    found.spreads = [spread for _, _, spread, _ in order]
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.numel() > 3:
            _note_matrix(found, model, name, parameter.detach())
    found.gates = max((_gates(module, given) for _, module, _, given in order if given is not None), default=0.0)
    found.units = activity(lab, model, lab.passes(6))
    found.slope = _slope([module for _, module, _, _ in order], value)
    return found


def _weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in model.named_modules() if isinstance(m, (*WEIGHTED, nn.RNNBase, nn.RNNCellBase))]


def _spread_into(order: list[Any], name: str) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) else output
        if isinstance(value, Tensor) and all(name != each for each, *_ in order):
            given = inputs[0].detach() if inputs and isinstance(inputs[0], Tensor) else None
            order.append((name, module, spread(value.detach(), module), given))

    return note


def spread(value: Tensor, module: nn.Module | None = None) -> float:
    """Return how much units differ from row to row, in the mean over units."""
    if isinstance(module, nn.modules.conv._ConvNd) and value.ndim > 2:
        value = value.movedim(1, -1)
    rows = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else value[:, None]
    return float(rows.float().std(0, correction=0).square().mean().sqrt()) if len(rows) > 1 else 0.0


def _calls_into(calls: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
    return lambda module, inputs, output: calls.append((inputs[0], output)) if inputs else None


def _feeds_itself(calls: list[tuple[Tensor, Tensor]]) -> bool:
    """Return whether what a layer is given the last time hangs on what it gave the second time: a first is of zeros."""
    if len(calls) < TIMES or not calls[-1][0].requires_grad:
        return False
    return torch.autograd.grad(calls[-1][0].sum(), calls[1][1], retain_graph=True, allow_unused=True)[0] is not None


def _note_matrix(found: Start, model: nn.Module, name: str, value: Tensor) -> None:
    rows = value.reshape(len(value), -1)
    if len(rows) > 1 and rows.shape[1] > 1 and bool((rows == rows[0]).all()):
        found.same.append(name)
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.Embedding):
        return
    size = float(rows.square().mean().sqrt()) * math.sqrt(rows.shape[1])
    found.largest, found.least = max(found.largest, size), min(found.least, size)
    if ("_hh" in name or name.rpartition(".")[0] in found.recurrent) and len(rows) % rows.shape[1] == 0:
        found.radius = max(float(torch.linalg.eigvals(part.float()).abs().max()) for part in rows.split(rows.shape[1]))


def _gates(module: nn.Module, given: Tensor) -> float:
    """Return the share of a recurrent layer's gates that its input and biases alone put to an end."""
    weights = dict(module.named_parameters())
    inner, bias = weights.get("weight_ih_l0"), weights.get("bias_ih_l0")
    if not isinstance(module, nn.LSTM | nn.GRU) or inner is None or given.shape[-1] != inner.shape[1]:
        return 0.0
    made = given.float() @ inner.detach().T.float()
    if bias is not None:
        made = made + bias.detach() + weights["bias_hh_l0"].detach()
    return float((made.abs() > 6).double().mean())


def _slope(order: list[nn.Module], value: Tensor) -> float:
    """Return how much longer the gradient of the first layer's weights is than that of the last, for their sizes."""
    weights = [next((each for each in m.parameters() if each.ndim > 1 and each.requires_grad), None) for m in order]
    known = [each for each in weights if each is not None]
    if len(known) < 3:
        return 1.0
    first, last = torch.autograd.grad(value, [known[0], known[-1]], allow_unused=True)
    if first is None or last is None or not float(last.norm()):
        return 1.0
    sizes = [float(g.double().norm() / max(g.numel() ** 0.5, 1)) for g in (first, last)]
    return sizes[0] / sizes[1]
