"""Losses that programs use, and measures of trained models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, ...]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of (inputs, classes)."""
    return F.cross_entropy(model(batch[0]), batch[1])


def squared(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean squared error of (inputs, targets)."""
    return F.mse_loss(model(batch[0]), batch[1])


@torch.no_grad()
def error_rate(model: nn.Module, inputs: Any, classes: Tensor) -> float:
    """Return the share of rows that are classified wrongly, in evaluation mode; 1 where outputs are not finite."""
    model.eval()
    outputs = model(inputs)
    wrong = outputs.argmax(-1) != classes
    return (wrong | ~outputs.isfinite().all(-1)).float().mean().item()


def mean_loss(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> float:
    """Return the loss of a batch in evaluation mode; with gradients, which some losses need."""
    model.eval()
    return loss(model, batch).item()
