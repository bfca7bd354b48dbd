"""First weights that are many times too large, or so small that the signal dies: layers are brought to unit size.

One forward pass divides the weights of each layer by the root mean square of what it puts out, so that the next one
sees already what it is going to see: LSUV (Mishkin & Matas 2015, arXiv:1511.06422) without its orthogonal start.
"""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from steepest.pilot.trace import LAYERS, hooks, plain_layers

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
RESCALED = (*(kind for kind in LAYERS if not issubclass(kind, nn.RNNBase)), *NORMS)
"""What is linear in its weights; and gates bound what a recurrent layer puts out."""

FEW = 3
"""A net of fewer layers is none that anything could add up in."""

LARGE = 3.0
"""What layers make of their input, in the median, where weights are too large; torch's own make it 0.6, He's 1.4."""

LOST = 1e-4
"""So much is left of the difference between samples where the signal has died; float32 rounds at 1e-7."""

HEAD = 0.1
"""What the last layer is to put out at the most: as much as torch's own weights make of inputs of unit size."""

FALLS, RISES = 0.5, 0.1
"""Weights that were too large are kept smaller where the loss falls by such a part of itself; those that said the same
of each sample are kept larger where it does not rise by such a part."""


class Seen:
    """What a forward pass showed of the layers, in the order of their first calls.

    sizes: of the outputs; gains: output over input; differences: between samples, as a part of the input.
    """

    def __init__(self, layers: Sequence[nn.Module], evaluate: Callable[[], Any]) -> None:
        self.sizes: dict[nn.Module, float] = {}
        self.gains: list[float] = []
        self.differences: list[float] = []
        with hooks(layers, self._take):
            self.loss = float(evaluate())

    def _take(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not inputs or layer in self.sizes:
            return
        size, before = _size(output), _size(inputs[0])
        self.sizes[layer] = size
        if not isinstance(layer, NORMS):
            gain = size / before if before else 0.0
            self.gains.append(gain if math.isfinite(gain) else math.inf)
            apart = _size(inputs[0] - inputs[0].mean(0, keepdim=True)) if len(inputs[0]) > 1 else 0.0
            self.differences.append(apart / before if before else math.inf)  # zeros are meant, and not what is lost

    @property
    def large(self) -> bool:
        """Whether weights are too large."""
        return len(self.gains) >= FEW and median(self.gains) > LARGE

    @property
    def lost(self) -> bool:
        """Whether all samples are the same to the last layer, and were not to the first."""
        return len(self.gains) >= FEW and self.differences[-1] < LOST * self.differences[0]

    @property
    def last(self) -> nn.Module:
        """The last layer."""
        return [layer for layer in self.sizes if not isinstance(layer, NORMS)][-1]


@torch.no_grad()
def rescale(model: nn.Module, evaluate: Callable[[], Any]) -> dict[str, float]:
    """Bring layers to unit size where that is called for; return name of a layer -> factor of its weights and biases.

    evaluate: computes the loss of a batch, always the same one, without gradients. It is called once, and twice more
    where something is done. The last layer puts out little, and no more than it did. Layers whose weights are frozen,
    shared or made by a parametrisation stay. Not for a model that knows something: what it knows is in its sizes.
    """
    layers = list(plain_layers(model, RESCALED))
    seen = Seen(layers, evaluate)
    if not (seen.large or seen.lost):
        return {}
    names = {layer: name for name, layer in model.named_modules()}
    factors: dict[str, float] = {}

    def to_unit(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        size = _size(output)
        if names[layer] in factors or layer not in seen.sizes or not 0 < size < math.inf:
            return None
        wanted = min(HEAD, seen.sizes[layer]) if layer is seen.last else 1.0
        factor = 2.0 ** round(math.log2(wanted / size)) if wanted > 0 else 1.0  # a power of two rounds nothing
        factors[names[layer]] = factor
        apply(model, {names[layer]: factor})
        return output * factor

    try:
        with hooks(layers, to_unit):
            evaluate()
        now = Seen(layers, evaluate)
    except Exception:
        undo(model, factors)
        raise
    if _is_better(seen, now):
        return factors
    undo(model, factors)
    return {}


def _is_better(before: Seen, now: Seen) -> bool:
    if not math.isfinite(now.loss):
        return False
    if before.lost:
        return not now.lost and now.loss <= before.loss + RISES * abs(before.loss)
    return not math.isfinite(before.loss) or before.loss - now.loss > FALLS * abs(before.loss)


@torch.no_grad()
def apply(model: nn.Module, factors: dict[str, float]) -> None:
    """Multiply weights and biases of layers, by name."""
    for name, factor in factors.items():
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.mul_(factor)


def undo(model: nn.Module, factors: dict[str, float]) -> None:
    """Take `apply` back, exactly."""
    apply(model, {name: 1 / factor for name, factor in factors.items()})


def _size(values: Tensor) -> float:
    """Return the root mean square."""
    return float(torch.linalg.vector_norm(values.detach(), dtype=torch.float64)) / math.sqrt(max(values.numel(), 1))
