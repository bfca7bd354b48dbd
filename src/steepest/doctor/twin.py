"""Copies of a model and its optimizer, on which experiments are made."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.history import Pass
from steepest.snapshot import restore_random_state


@dataclass
class Twin:
    """A copy of a model with the optimizer that steps it. step: how many updates it has had."""

    model: nn.Module
    optimizer: Optimizer
    step: int

    @classmethod
    def of(cls, model: nn.Module, optimizer: Optimizer, step: int, modes: Sequence[bool]) -> "Twin":
        """Copy both at once, so that they stay tied, without gradients. modes: of the modules, when it trained."""
        twin, stepper = copy.deepcopy((model, optimizer))
        set_modes(twin, modes)
        return cls(twin, stepper, step)

    def copy(self) -> "Twin":
        """Return a copy to experiment with."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        return Twin(model, optimizer, self.step)


def copy_of(model: nn.Module, modes: Sequence[bool]) -> nn.Module:
    """Return a copy of a model, without gradients."""
    twin = copy.deepcopy(model)
    set_modes(twin, modes)
    return twin


def modes_of(model: nn.Module) -> list[bool]:
    """Return whether each module is in training mode."""
    return [module.training for module in model.modules()]


def set_modes(model: nn.Module, modes: Sequence[bool]) -> None:
    """Put each module in the mode it had; nothing where there are other modules now."""
    modules = list(model.modules())
    if len(modules) == len(modes):
        for module, training in zip(modules, modes, strict=True):
            module.training = training


def ask(model: nn.Module, loss: Any, of: Pass, batch: Any = None) -> Tensor:
    """Return the loss of a batch as the loop would have computed it: with its random numbers and its autocast.

    batch: another one instead. Raises what the loss raises, and TypeError when it returns no scalar.
    """
    restore_random_state(of.random)
    with autocast(model, of.autocast):
        return scalar(loss(model, of.batch if batch is None else batch))


def scalar(value: Any) -> Tensor:
    """Return the number that a loss function has returned, alone or with others by name."""
    if isinstance(value, dict):
        value = value["loss"]
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(f"loss= returned {type(value).__name__}, and not a scalar tensor.")
    return value.reshape(())


def autocast(model: nn.Module, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return the context in which the model is called."""
    device = next((each.device.type for each in model.parameters()), "cpu")
    return nullcontext() if dtype is None else torch.autocast(device, dtype)
