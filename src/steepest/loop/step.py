"""What one update of gradient descent tells about itself, when asked."""

import math
from collections.abc import Callable
from typing import Any

import torch


class Step:
    """One update. Numbers that live on a device are fetched when they are read, once.

    index: how many updates were made before this one, so the first step has index 0. Loss and gradient belong to the
    weights that those updates made; an evaluation at step n sees the weights after n updates, on the same axis.
    epoch: the pass over the data that the batch came from, counted from 0. lr: of the first parameter group.
    seconds: from asking for the batch to the end of the update. skipped: the loss or the gradient norm was not
    finite, and the weights are as they were.
    """

    __slots__ = ("_gradient_norm", "_loss", "_metrics", "_read_norm", "epoch", "index", "lr", "seconds", "skipped")

    def __init__(
        self, index: int, epoch: int, loss: torch.Tensor | float = math.nan, metrics: dict[str, Any] | None = None
    ) -> None:
        self.index, self.epoch = index, epoch
        self.lr, self.seconds, self.skipped = 0.0, 0.0, False
        self._loss = loss
        self._metrics = metrics or {}
        self._gradient_norm: torch.Tensor | float | None = None
        self._read_norm: Callable[[int], torch.Tensor | float | None] | None = None

    @property
    def loss(self) -> float:
        """The loss of the batch, at the weights before the update."""
        if isinstance(self._loss, torch.Tensor):
            self._loss = self._loss.item()
        return self._loss

    def loss_later(self) -> Callable[[], float]:
        """Return what reads the loss later, without waiting for what its device was given to do meanwhile."""
        loss = self._loss
        if not isinstance(loss, torch.Tensor) or loss.is_cpu:
            return lambda: self.loss
        copy, event = loss.to("cpu", non_blocking=True), torch.Event(loss.device.type)
        event.record()

        def read() -> float:
            event.synchronize()
            return copy.item()

        return read

    @property
    def metrics(self) -> dict[str, float]:
        """What else the loss function returned beside "loss"."""
        return {name: float(value) for name, value in self._metrics.items()}

    @property
    def grad_norm(self) -> float | None:
        """The Euclidean norm of the whole gradient before clipping; None when asked after the loop has gone on."""
        if self._gradient_norm is None and self._read_norm is not None:
            self._gradient_norm = self._read_norm(self.index)
        return None if self._gradient_norm is None else float(self._gradient_norm)

    def record_loss(self, loss: torch.Tensor | float, metrics: dict[str, Any]) -> None:
        """Keep what the loss function returned, cut off from the graph."""
        self._loss, self._metrics = loss, metrics

    def record_norm(self, norm: torch.Tensor) -> None:
        """Keep the norm of the gradient that clipping had to compute."""
        self._gradient_norm = norm

    def read_norm_with(self, read: Callable[[int], torch.Tensor | float | None]) -> None:
        """Let `grad_norm` ask this function, with the index of the step, while the gradients are there."""
        self._read_norm = read

    def __repr__(self) -> str:
        return f"Step(index={self.index}, epoch={self.epoch}, loss={self.loss:.6g}, lr={self.lr:.3g})"
