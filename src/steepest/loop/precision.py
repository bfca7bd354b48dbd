"""In which numbers a run computes: float32, bfloat16 or float16 under autocast, or bfloat16 weights."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PRECISIONS = ("float32", "bf16", "fp16", "bf16-true")
_AUTOCAST = {"bf16": torch.bfloat16, "bf16-true": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How a loss is computed, backpropagated and made a step of.

    "float32": as the model is. "bf16", "fp16": matrix products and their like in 16 bits, weights in float32
    (`torch.autocast`); the small range of fp16 needs its loss scaled, and a scale that turns out too large costs a
    skipped update (Micikevicius et al. 2018, arXiv:1710.03740). "bf16-true": the weights are bfloat16 as well, half the
    memory; then small updates are lost unless the optimizer rounds for it (rounding="kahan" or "stochastic").
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self._dtype = _AUTOCAST.get(name)
        self._device = device.type
        self._scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, so that a gradient that is not finite means that the scale is too large."""
        return self._scaler is not None

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context in which the model predicts and the loss is computed."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device, self._dtype)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in this context."""
        if self._dtype is None:
            return function(*arguments)
        with self.forward():
            return function(*arguments)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Give gradients their true size."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Move every parameter; return whether the scale of fp16 was too large, so that nothing was moved."""
        if self._scaler is None:
            optimizer.step()
            return False
        before = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        return self._scaler.get_scale() < before

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and its history; {} where there is none."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a scale."""
        if self._scaler is not None and self._scaler.state_dict().keys() <= state.keys():
            self._scaler.load_state_dict(state)


def check_precision(name: Any) -> None:
    """Raise ValueError for a precision that is none."""
    if name not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(map(repr, PRECISIONS))}; received {name!r}.")


def lower_weights(model: nn.Module, optimizer: Optimizer) -> None:
    """Make the weights bfloat16; raise where the optimizer would lose small updates."""
    rounding = {group.get("rounding", "nearest") for group in optimizer.param_groups}
    if "nearest" in rounding:
        raise ValueError(
            "precision='bf16-true' keeps weights in bfloat16, where updates below 1/256 of a weight round to nothing: "
            "give an optimizer of steepest.optim with rounding='kahan' or 'stochastic', or take precision='bf16'."
        )
    for parameter in _floating(model.parameters()):
        parameter.data = parameter.data.to(torch.bfloat16)


def _floating(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.dtype in (torch.float32, torch.float64)]
