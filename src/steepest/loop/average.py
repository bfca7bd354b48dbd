"""The weights to evaluate at, where an optimizer keeps a mean of them, and batch norm statistics that go with it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Average:
    """The mean point of a run.

    An optimizer of ours with `ema=` keeps a running mean of the weights. What batch norms have seen belongs to the
    weights as they are, so a mean with the same decay is kept of that too (as timm's ModelEma does).
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._decay: float | None = getattr(optimizer, "ema", None)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        buffers = (buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point())
        self._seen: list[Tensor] = [] if self._decay is None else list(buffers)
        self._means: list[Tensor] = []

    def update(self) -> None:
        """Take in what batch norms saw of the last batch."""
        if not self._seen:
            return
        if not self._means:
            self._means = [buffer.detach().clone() for buffer in self._seen]
        torch._foreach_lerp_(self._means, self._seen, 1 - self._decay)  # type: ignore[operator]

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
        if not hasattr(self._optimizer, "averaged"):
            return
        weights = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        with self.in_place():
            means = [weight.detach().clone() for weight in weights]
        _fill(weights, means)
        _fill(self._seen, self._means)

    def state_dict(self) -> dict[str, Any]:
        """Return the means of what batch norms saw."""
        return {"norms": list(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the means, where they fit."""
        means = state["norms"]
        if len(means) == len(self._seen):
            self._means = [mean.to(seen.device, copy=True) for mean, seen in zip(means, self._seen, strict=True)]


def _fill(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=bool(values)):
        tensor.copy_(value)
