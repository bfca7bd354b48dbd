"""The six steps of gradient descent, as an iterator."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest import optim
from steepest.data import describe, open_source, to_device
from steepest.loop import checks
from steepest.loop.position import Position
from steepest.loop.step import Step
from steepest.loop.task import Factor, Loss
from steepest.snapshot import random_state, restore_random_state

PATIENCE = 10
"""So many updates in a row may be skipped before the run gives up."""


class Run:
    """Gradient descent, one update for each element; the body of the `for` is where everything else goes.

    loss: loss(model, batch) -> a scalar tensor, or a dict of them with the key "loss".
    data: what `steepest.data.open_source` takes; batch_size and seed belong to it.
    steps, epochs: the budget, one of the two.
    schedule: schedule(step, steps) -> the factor of each parameter group's initial rate, as those of
    `steepest.schedules`; none is needed for an optimizer that holds its own.
    clip: the largest norm the gradient may have. device: where to train; None: where the model is.

    An update whose loss is not finite is skipped and counted, ten in a row raise FloatingPointError. That costs
    nothing on a CPU. On an accelerator looking at the loss would stall it: there `skip_nonfinite=True` of the optimizer
    is the guard.

    A `Run` can be left with `break` and taken up again; what it needs to go on is `state_dict()`.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: nn.Module,
        loss: Loss,
        data: Any,
        *,
        optimizer: Optimizer,
        steps: int | None = None,
        epochs: int | None = None,
        schedule: Factor | None = None,
        batch_size: int = 32,
        clip: float | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        checks.check_model(model)
        checks.check_loss_function(loss)
        checks.check_optimizer(optimizer)
        checks.check_seed(seed)
        checks.check_clip(clip)
        self.source = open_source(data, batch_size, seed)
        self.steps = checks.length_of_run(steps, epochs, self.source.batches)
        if schedule is not None:
            checks.check_schedule(schedule, self.steps)
        if isinstance(optimizer, optim.Optimizer):
            optimizer.bind(self.steps)  # a schedule given as lr= learns how long the run is
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.schedule, self.clip = schedule, clip
        self.device = place(model, device)
        self.position = Position()
        self._batches = self._feed()

    def __iter__(self) -> Iterator[Step]:
        """Yield a Step after each update, until the budget is spent."""
        self.model.train()
        while self.position.step < self.steps:
            began = perf_counter()
            self._set_rate()
            self.optimizer.zero_grad()
            batch = next(self._batches)  # 1. take a batch
            loss, others = self._predict(batch)  # 2. predict, 3. compute the loss
            step = Step(self.position.step, self.position.epoch, loss.detach(), others)
            if self._is_finite(loss):
                loss.backward()  # 4. backpropagate
                self._clip(step)
            else:
                step.skipped = True
            if not step.skipped:
                self._move(step)  # 5. move every parameter by minus the gradient times the rate
            self._finish(step, began)
            yield step  # 6. repeat
            self._check_patience(step)

    def state_dict(self) -> dict[str, Any]:
        """Return all that has to survive, as one tree. Tensors are those of the run, not copies, as in PyTorch."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(self.position),
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Exact for arrays and Datasets. Of an iterable, the batches of the epoch that were used are read again and
        dropped; an iterator has to stand where it stood.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        self._batches = self._feed()
        restore_random_state(state["random"])

    def _feed(self) -> Iterator[Any]:
        """Yield the batches of one epoch after another, and keep the place."""
        while True:
            for batch in self.source.epoch(self.position.epoch, self.position.batch):
                self.position.batch += 1
                yield batch if self.device.type == "cpu" else to_device(batch, self.device)
            if self.position.batch == 0:
                raise ValueError(self._ended())
            self.position.epoch, self.position.batch = self.position.epoch + 1, 0

    def _ended(self) -> str:
        if self.position.step == 0:
            return "The data gave no batches. An iterator can be read only once: was it used before?"
        return (
            f"The data ended after {self.position.step} batches, but the run has {self.steps} steps. An iterator can "
            f"be read only once: pass a list or a DataLoader, which can be read again, or steps={self.position.step}."
        )

    def _predict(self, batch: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        try:
            loss, others = checks.split_outputs(self.loss(self.model, batch))
            checks.check_loss(loss)
        except Exception as error:
            error.add_note(f"This was step {self.position.step}, with the batch {describe(batch)}.")
            raise
        return loss, others

    def _set_rate(self) -> None:
        if self.schedule is None:
            return
        factor = self.schedule(self.position.step, self.steps)
        for group in self.optimizer.param_groups:
            rate = group.setdefault("initial_lr", float(group["lr"])) * factor
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _clip(self, step: Step) -> None:
        if self.clip is None:
            return
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip)
        step.record_norm(norm)
        step.skipped = not self._is_finite(norm)

    def _move(self, step: Step) -> None:
        stats = getattr(self.optimizer, "stats", None)  # optimizers of ours tell what they did
        before = getattr(stats, "skipped", 0)
        self.optimizer.step()
        step.skipped = getattr(stats, "skipped", 0) > before

    def _finish(self, step: Step, began: float) -> None:
        position = self.position
        position.step += 1
        position.skipped += step.skipped
        position.skipped_in_a_row = position.skipped_in_a_row + 1 if step.skipped else 0
        step.lr = float(self.optimizer.param_groups[0]["lr"])
        step.read_norm_with(self._gradient_norm)
        step.seconds = perf_counter() - began

    def _is_finite(self, number: torch.Tensor) -> bool:
        return number.device.type != "cpu" or math.isfinite(number.item())

    def _gradient_norm(self, index: int) -> torch.Tensor | float | None:
        if index != self.position.step - 1:
            return None  # the gradients of that step are gone
        known = getattr(getattr(self.optimizer, "stats", None), "gradient_norm", None)
        if known is not None:
            return known
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return nn.utils.get_total_norm(gradients) if gradients else None

    def _check_patience(self, step: Step) -> None:
        if self.position.skipped_in_a_row < PATIENCE:
            return
        first, last = step.index - PATIENCE + 1, step.index
        raise FloatingPointError(
            f"Loss or gradient were not finite at steps {first} to {last}, {PATIENCE} in a row (the last loss is "
            f"{step.loss}). None of these updates was made: the weights are those that step {first} began with. Look "
            "for NaN in the batches and for a division, logarithm or root of zero in the loss; lower the learning "
            "rate if the loss had been growing."
        )


def place(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """Move the model to the device, if one is given; return where it is."""
    if device is not None:
        model.to(device)
    first = next(model.parameters(), None)
    return torch.device(device or "cpu") if first is None else first.device
