"""The weights to evaluate at, where a mean of them is kept, and batch norm statistics that go with it."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SHARE = 0.1
"""Of the steps so far: what the mean of an open run reaches back."""

LOOKS = 25
"""An open run looks at its weights so many times within that reach. The mean is the same, and costs next to nothing."""


class Average:
    """The mean point of a run.

    An optimizer of ours with `ema=` keeps a running mean of the weights. What batch norms have seen belongs to the
    weights as they are, so a mean with the same decay is kept of that too (as timm's ModelEma does).

    An open run has a constant rate, and its weights are good only in the mean. Where the optimizer keeps none the mean
    is kept here, with a decay that grows with the run: 1 - 1 / (0.1 t) at step t. In the final decay it reaches back no
    further than the end is away, so that the run ends with its last weights: they need no mean, and where there is no
    noise they are better by orders of magnitude.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, *, grows: bool = False) -> None:
        self._optimizer = optimizer
        self._decay: float | None = getattr(optimizer, "ema", None)
        self._grows = grows and self._decay is None and not _averages(optimizer)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self._seen: list[Tensor] = []
        if self._grows:
            self._seen += [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self._grows or self._decay is not None:
            self._seen += [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        self._means: list[Tensor] = []

    @torch.no_grad()
    def update(self, step: int, left: float = math.inf) -> None:
        """Take in the weights, and what batch norms saw of the last batch, after the update `step`; left: after it."""
        if not self._seen:
            return
        new = 1.0 if self._decay is None else 1 - self._decay
        if self._grows:
            reach = min(SHARE * (step + 1), left + 1)
            every = int(reach / LOOKS) | 1  # odd, for weights that swing from one step to the next
            if step % every and self._means:
                return
            new = min(1.0, every / reach)
        if not self._means:
            self._means = [each.to(_wide(each.dtype), copy=True) for each in self._seen]
        seen = [each.to(mean.dtype) for each, mean in zip(self._seen, self._means, strict=True)]
        torch._foreach_lerp_(self._means, seen, new)  # pyright: ignore[reportPrivateImportUsage]

    def begin_anew(self) -> None:
        """Forget the mean: the weights have become others."""
        self._means = []

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean in place for the length of a block."""
        with ExitStack() as stack:
            if hasattr(self._optimizer, "averaged"):
                stack.enter_context(self._optimizer.averaged())  # type: ignore[attr-defined]
            now = [buffer.clone() for buffer in self._seen] if self._means else []
            _fill(self._seen, self._means)
            try:
                yield
            finally:
                _fill(self._seen, now)

    @torch.no_grad()
    def keep(self) -> None:
        """Leave the model with the mean, now that it is not trained any further."""
        if not hasattr(self._optimizer, "averaged") and not self._means:
            return
        weights = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        with self.in_place():
            means = [weight.detach().clone() for weight in weights]
        _fill(weights, means)
        _fill(self._seen, self._means)

    def state_dict(self) -> dict[str, Any]:
        """Return the means that are kept here."""
        return {"means": list(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the means, where they fit."""
        means = state["means"]
        if len(means) == len(self._seen):
            self._means = [mean.to(seen.device, copy=True) for mean, seen in zip(means, self._seen, strict=True)]


def _averages(optimizer: Optimizer) -> bool:
    """Whether a rule of the optimizer has a mean of its own, as those that are free of a schedule."""
    rule_of = getattr(optimizer, "rule_of", None)
    return rule_of is not None and any(rule_of(group).average is not None for group in optimizer.param_groups)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return a dtype in which a small change of a mean is not lost."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@torch.no_grad()
def _fill(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=bool(values)):
        tensor.copy_(value)
