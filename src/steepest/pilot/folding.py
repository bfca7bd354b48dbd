"""Units taken out of the first layers: their weights are optimised as if each input had mean 0 and deviation 1.

With inputs of mean mu and deviation sd the layer computes W x + b = W' z + b', where z = (x - mu) / sd, W' = W sd and
b' = b + W mu. W' and b' are what the rule steps; W and b are what the model keeps. Exact: no number that the model
computes changes, only the direction of the steps does.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.kernels.fold import Passes
from steepest.kernels.support import unsupported


@dataclass
class Fold:
    """One weight with its bias, and the statistics of its inputs, shaped so that they multiply the weight.

    scale: deviation of each input; inverse: 1 / scale, and 0 for an input that is constant (its scale is 0); mean: 0
    without a bias. factor: scale, and 1 for an input that is constant.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    scale: Tensor
    inverse: Tensor
    mean: Tensor
    factor: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.factor = self.scale.where(self.scale != 0, 1.0)
        self._row = self.mean[0] if self.mean.ndim == 2 and len(self.mean) == 1 else None

    @cached_property
    def passes(self) -> Passes | None:
        """Fold and unfold, compiled: 10 us a step on small layers, for which torch takes 70. None on an accelerator."""
        if unsupported(self.weight) or self.weight.device.type != "cpu" or self.weight.dtype != torch.float32:
            return None
        return Passes(self.weight, self.bias, (self.factor, self.inverse, self.mean))

    @classmethod
    def of(cls, weight: nn.Parameter, bias: nn.Parameter | None, scale: list[Any], mean: list[Any]) -> "Fold":
        """Make a fold of plain numbers: a row for all outputs, or for each group of a convolution."""
        rows = [torch.tensor(each, dtype=torch.float64, device=weight.device) for each in (scale, mean)]
        scales, means = (_spread(each, weight) for each in rows)
        inverse = torch.where(scales == 0, 0.0, 1 / scales)
        return cls(weight, bias, scales, inverse, means)

    def plain(self) -> dict[str, Any]:
        """Return the statistics as plain numbers."""
        return {name: getattr(self, name).flatten(1).double().tolist() for name in ("scale", "mean")}

    def shifted(self, weight: Tensor) -> Tensor:
        """Return W mu: what the mean input adds to each output."""
        return (weight * self.mean).flatten(1).sum(1) if self._row is None else weight @ self._row

    @torch.no_grad()
    def begin_anew(self) -> None:
        """Make the weights what they would be for inputs of mean 0 and deviation 1; constant inputs get none."""
        self.weight.mul_(self.inverse)
        if self.bias is not None:
            self.bias.sub_(self.shifted(self.weight))

    @torch.no_grad()
    def undo(self) -> None:
        """Take `begin_anew` back, but for the weights of constant inputs."""
        if self.bias is not None:
            self.bias.add_(self.shifted(self.weight))
        self.weight.mul_(self.scale)


RARE, ENOUGH = 8, 32
"""An input that is not zero in fewer samples, of so many at the least, has a deviation that says little: it counts as
large as the others are. In units of its own it could be a thousand times as large once it comes up."""

_Kept = tuple[Tensor, Tensor | None, Tensor, Tensor | None]  # weight and bias as they were, and folded


class Folding:
    """Makes an optimizer step the folded weights; `attach` it once."""

    def __init__(self, folds: list[Fold]) -> None:
        self.folds = folds
        self._before: list[Passes | _Kept] = []

    def attach(self, optimizer: Optimizer) -> None:
        """Fold before each step, unfold after it."""
        if self.folds:
            optimizer.register_step_pre_hook(self._fold)
            optimizer.register_step_post_hook(self._unfold)

    def _fold(self, *_: Any) -> None:
        self._before = []
        for fold in self.folds:
            passes = fold.passes
            self._before.append(passes if passes is not None and passes.fold() else self._by_torch(fold))

    @torch.no_grad()
    def _by_torch(self, fold: Fold) -> _Kept:
        weight, bias = fold.weight, fold.bias
        kept = weight.clone(), None if bias is None else bias.clone()
        if weight.grad is not None:
            if bias is not None and bias.grad is not None:
                weight.grad.addcmul_(bias.grad.view(-1, *[1] * (weight.ndim - 1)), fold.mean, value=-1)
            weight.grad.mul_(fold.inverse)
        if bias is not None:
            bias.add_(fold.shifted(weight))
        weight.mul_(fold.factor)
        return *kept, weight.clone(), None if bias is None else bias.clone()

    def _unfold(self, *_: Any) -> None:
        """Add what the rule moved to the weights as they were, so that no rounding gathers."""
        for fold, before in zip(self.folds, self._before, strict=True):
            if isinstance(before, Passes):
                before.unfold()
            else:
                self._back_by_torch(fold, *before)
        self._before = []

    @torch.no_grad()
    def _back_by_torch(
        self, fold: Fold, weight: Tensor, bias: Tensor | None, folded: Tensor, folded_bias: Tensor | None
    ) -> None:
        moved = (fold.weight - folded).mul_(fold.inverse)
        torch.add(weight, moved, out=fold.weight)
        if fold.bias is not None and bias is not None and folded_bias is not None:
            fold.bias.sub_(folded_bias).add_(bias).sub_(fold.shifted(moved))


def weights_of(layer: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter | None]]:
    """Return the weights that multiply the input of a layer, each with its bias."""
    if isinstance(layer, nn.RNNBase):
        names = [name for name, _ in layer.named_parameters() if name.startswith("weight_ih_l0")]
        return [(getattr(layer, name), getattr(layer, name.replace("weight", "bias"), None)) for name in names]
    return [(layer.weight, layer.bias)]  # type: ignore[list-item]


class Inputs:
    """Mean and deviation of each input feature of a layer (of a convolution: channel), gathered over batches."""

    def __init__(self, layer: nn.Module) -> None:
        self._axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
        self._count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())
        self._seen = torch.zeros(())
        self.layer = layer

    def add(self, x: Tensor) -> None:
        """Take in the input of one call, (batch, ..., features) or (batch, channels, ...)."""
        axis = self._axis
        if isinstance(self.layer, nn.modules.conv._ConvNd) and x.ndim < self.layer.weight.ndim:  # without a batch
            axis = 0
        rows = x.detach().movedim(axis, -1).flatten(0, -2).double()
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.square().sum(0)
        self._seen = self._seen + (rows != 0).sum(0)

    def folds(self) -> list[Fold]:
        """Return the folds of the layer; none when what came in was not finite."""
        mean = self._sum / max(self._count, 1)
        square = self._squares / max(self._count, 1)
        if not (bool(mean.isfinite().all()) and bool(square.isfinite().all())):
            return []
        return [self._fold(weight, bias, mean, square) for weight, bias in weights_of(self.layer)]

    def _fold(self, weight: nn.Parameter, bias: nn.Parameter | None, mean: Tensor, square: Tensor) -> Fold:
        if bias is None:
            mean = torch.zeros_like(mean)
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        still = deviation <= 1e-6 * mean.abs().clamp(min=1e-30)
        rows = (len(mean) // weight.shape[1], weight.shape[1])  # one row, or one for each group of a convolution
        rare = ~still & (self._seen < RARE)
        if self._count >= ENOUGH and bool(rare.any()):
            deviation = deviation.where(~rare, deviation.clamp(min=deviation[~still].median()))
        scale = torch.where(still, 0.0, deviation)
        return Fold.of(weight, bias, scale.reshape(rows).tolist(), mean.reshape(rows).tolist())


def _spread(rows: Tensor, weight: nn.Parameter) -> Tensor:
    """Bring one number for each input into a shape that multiplies the weight (outputs, inputs, kernel)."""
    each = rows.to(weight.dtype)
    if len(each) > 1 and len(each) != len(weight):
        each = each.repeat_interleave(len(weight) // len(each), 0)
    return each.reshape(*each.shape, *[1] * (weight.ndim - 2))
