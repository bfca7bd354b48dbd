"""Layers follow each other with nothing that is not linear between them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, squares, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better
from steepest.doctor.twin import Twin

SUMS = ("add", "__add__", "__radd__", "__iadd__", "add_", "sub", "__sub__", "mul", "__mul__", "__rmul__")
"""Of these, a product counts as one where it has a number for a factor."""

LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
STILL = {
    "view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze", "contiguous", "dropout", "dropout2d",
    "clone", "movedim", "T", "mT", "to", "float", "batch_norm", "avg_pool2d", "adaptive_avg_pool2d", "__getitem__",
}  # fmt: skip
"""Functions that leave a number a sum of what came in."""


@cause(
    "C13",
    "no-activation",
    fix="Put an activation between the layers: nn.ReLU() after each hidden one.",
    when=MARK,
    weight=REPLAYED - 0.1,
    masks="C12 D02 D03 D15 D18 D21",
)
def no_activation(lab: Lab) -> Found | None:
    """The model learns no more than a linear one can.

    What one linear layer gives goes into the next with nothing between that is not linear itself, and nowhere else but
    into sums of such; and the layer between is no bottleneck. A replay with a ReLU there gains more.
    """
    if lab.loss is None or lab.now < 25 or lab.gain > 0.9:
        return None
    if "chained" not in lab.notes:
        lab.notes["chained"] = _chained(lab)
    names = lab.notes["chained"]
    if not names:
        return None
    told = better(lab, Change("activations between layers", prepare=_activated(names)), 0.08)
    if told is None:
        return None
    summary = (
        f"Nothing that is not linear follows {', '.join(names[:3])}; with a ReLU there the loss is {told.changed:.3g} "
        f"where it is {told.base:.3g}."
    )
    return Found(summary, {"layers": ", ".join(names), **told.evidence}, True, cure=told.change)


def _activated(names: list[str]) -> Callable[[Twin], None]:
    def prepare(twin: Twin) -> None:
        modules = dict(twin.model.named_modules())
        for name in names:
            modules[name].register_forward_hook(_relu)

    return prepare


def _relu(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return torch.relu(output)


def _chained(lab: Lab) -> list[str]:
    """Return the layers whose output goes into another one as it is, but for its shape."""
    model, mode = lab.twin(), _Chain()
    owners = {id(m.weight): n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)}
    modules: dict[str, Any] = dict(model.named_modules())
    sizes = {name: tuple(modules[name].weight.shape) for name in owners.values()}
    of = lab.passes(1)[0]
    with mode:
        lab.ask(model, of)
    alone = [weight for weight in mode.chained if weight not in mode.elsewhere]
    found = [owners[weight] for weight in alone if weight in owners and owners.get(mode.chained[weight])]
    ends = {name: owners[mode.chained[weight]] for weight, name in owners.items() if mode.chained.get(weight) in owners}
    return [name for name in found if sizes[name][0] >= min(sizes[name][1], sizes[ends[name]][0])]


class _Chain(TorchFunctionMode):
    """Follows what layers give to where it goes. chained: id of the weight of one layer -> of the next one's.

    elsewhere: ids of weights of layers whose output goes on past what is not linear, as a stream past its branches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chained: dict[int, int] = {}
        self.elsewhere: set[int] = set()
        self._from: dict[int, int] = {}
        self._kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = args[0] if args and isinstance(args[0], Tensor) else None
        if given is None or not isinstance(output, Tensor):
            return output
        self._kept.append(output)
        if name in LAYERS and len(args) > 1:
            if id(given) in self._from:
                self.chained[self._from[id(given)]] = id(args[1])
            self._from[id(output)] = id(args[1])
        elif name in SUMS:
            parts = [each for each in args if isinstance(each, Tensor) and each.requires_grad]
            self._add(parts, output, "mul" in name and len(parts) > 1)
        elif id(given) in self._from and (
            name in STILL or output is given or self._linear(name, kwargs, output, given)
        ):
            self._from[id(output)] = self._from[id(given)]
        elif output is given:
            self._from.pop(id(given), None)
        return output

    def _add(self, parts: list[Tensor], output: Tensor, bent: bool) -> None:
        """Follow a sum: it is linear where all its parts are; otherwise those that are go on past something else."""
        origins = [self._from[id(each)] for each in parts if id(each) in self._from]
        if bent or len(origins) < len(parts):
            self.elsewhere.update(origins)
            self._from.pop(id(output), None)
        elif origins:
            self._from[id(output)] = origins[0]

    def _linear(self, name: str, kwargs: Any, output: Tensor, given: Tensor) -> bool:
        """Return whether an activation does nothing: a leaky ReLU of slope one."""
        return name == "leaky_relu" and output.shape == given.shape and bool(torch.equal(output, given))


def demo(run: Demo) -> None:
    """A perceptron without activations."""
    layers = run.network(8, 1)
    model = nn.Sequential(*(each for each in layers if isinstance(each, nn.Linear))) if run.faulty else layers
    x, _ = run.numbers()
    data = x, x[:, :1] * x[:, 1:2]
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), squares, run.batches(data))
