"""Weights of a moment, kept in memory: what a run can go back to."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

OPTIONS = ("param_groups", "steps")
"""What an optimizer saves that is not kept: its rate, say, may have changed for good reasons."""


class Kept:
    """A copy of the weights that are trained, buffers and optimizer state.

    step: the one that began with them; None: there is none.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.step: int | None = None
        self._model, self._optimizer = model, optimizer
        self._copy: dict[str, Any] = {}

    @torch.no_grad()
    def keep(self, step: int) -> bool:
        """Copy what this step begins with; return whether there was room for it."""
        saved = {name: value for name, value in self._optimizer.state_dict().items() if name not in OPTIONS}
        now = {"model": self._tensors(), "optimizer": saved}
        if not self._copy and not _has_room(now):
            return False
        self._copy, self.step = _copied(now, self._copy), step
        return True

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the weights and buffers that are kept in place of those that are there, and keep those."""
        now = self._tensors()
        for name, kept in self._copy["model"].items():
            if name in now and now[name].shape == kept.shape:  # a buffer may have grown
                value = now[name].clone()
                now[name].copy_(kept)
                kept.copy_(value)

    def restore_optimizer(self) -> None:
        """Give the optimizer the state that is kept."""
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), **self._copy["optimizer"]})

    def _tensors(self) -> dict[str, Tensor]:
        trained = {parameter for group in self._optimizer.param_groups for parameter in group["params"]}
        weights = {name: each for name, each in self._model.named_parameters() if each in trained}
        return {**weights, **dict(self._model.named_buffers())}

    def state_dict(self) -> dict[str, Any]:
        """Return the copy. The tensors are those that are kept."""
        return {"step": self.step, "copy": self._copy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a copy."""
        self.step, self._copy = state["step"], _copied(state["copy"], {})


def _copied(value: Any, before: Any) -> Any:
    """Return a copy of a tree of tensors and plain data, in the memory of a former one where it fits."""
    if isinstance(value, Tensor):
        fits = isinstance(before, Tensor) and before.shape == value.shape and before.dtype == value.dtype
        return before.copy_(value) if fits and before.device == value.device else value.detach().clone()
    if isinstance(value, dict):
        there = before if isinstance(before, dict) else {}
        return {name: _copied(part, there.get(name)) for name, part in value.items()}
    return value


def _has_room(tree: dict[str, Any]) -> bool:
    """Whether a GPU holds the tensors once more, beside all that it has held at once so far.

    Twice over: at the first step the optimizer has no state yet.
    """
    weights = [each for each in tree["model"].values() if each.is_cuda]
    if not weights:
        return True
    device = weights[0].device
    left = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return 3 * sum(each.nbytes for each in weights) <= left - torch.cuda.max_memory_allocated(device)
