"""The six steps of gradient descent, as an iterator."""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest import optim
from steepest.data import open_source, to_device
from steepest.loop import checks
from steepest.loop.average import Average
from steepest.loop.budget import budget_of
from steepest.loop.gradient import Gradient
from steepest.loop.guard import Guard
from steepest.loop.position import Position
from steepest.loop.precision import Precision, check_precision, lower_weights
from steepest.loop.step import Step
from steepest.loop.task import Factor, Loss
from steepest.snapshot import hidden_buffers, random_state, restore_buffers, restore_random_state

PATIENCE = 10
"""So many updates in a row may be skipped before the run gives up."""


FEW = 8
"""Norms of so few gradients are quicker one by one than sorted by device and dtype."""


class Run:
    """Gradient descent, one update for each element; the body of the `for` is where everything else goes.

    loss: loss(model, batch) -> a scalar tensor, or a dict of numbers with the key "loss". The loss is a mean, over
    samples if the key "weight" does not say over how much (tokens, say). That matters where means of several batches
    are put together: in micro-batches and evaluations.
    data: what `steepest.data.open_source` takes; batch_size, seed and workers (processes that read it) belong to it.
    steps, epochs, time ("30m"): the budget, one of the three. None of them: the run is open, and goes on until it is
    left, or until the final decay that `finish` begins has ended; a mean of its weights is kept, `run.average`.
    schedule: schedule(step, steps) -> the factor of each parameter group's initial rate, as those of
    `steepest.schedules`; none is needed for an optimizer that holds its own.
    clip: the largest norm the gradient may have. device: where to train; None: where the model is.
    precision: "float32", "bf16", "fp16" or "bf16-true"; see `steepest.loop.precision`.
    microbatch: how many samples go through the model at once, a number or "auto"; the update stays the same.
    checkpoint_activations: recompute the activations of repeated blocks; "auto": when memory runs out.
    compile: compile the model with torch.compile.

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
        time: str | float | None = None,
        schedule: Factor | None = None,
        batch_size: int = 32,
        microbatch: int | str | None = None,
        precision: str = "float32",
        clip: float | None = None,
        checkpoint_activations: bool | str = False,
        compile: bool = False,
        seed: int = 0,
        workers: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        checks.check_model(model)
        checks.check_loss_function(loss)
        checks.check_optimizer(optimizer)
        checks.check_seed(seed)
        checks.check_clip(clip)
        check_precision(precision)
        self.source = open_source(data, batch_size, seed, workers)
        self.budget = budget_of(steps, epochs, time, self.source.batches)
        if schedule is not None:
            checks.check_schedule(schedule, self.budget.place(0, 0.0)[1])
            if self.budget.open:
                checks.check_open_schedule(schedule)
        self.model, self.optimizer = model, optimizer
        self._bind()
        self.schedule, self.clip = schedule, clip
        self.device = place(model, device)
        self._on_cpu = self.device.type == "cpu"
        self._stats = getattr(optimizer, "stats", None)  # optimizers of ours tell what they did
        if precision == "bf16-true":
            lower_weights(model, optimizer)
        self.precision = Precision(precision, self.device)
        self.gradient = Gradient(model, loss, self.precision, microbatch, checkpoint_activations)
        if compile:
            model.compile()
        self.average = Average(model, optimizer, grows=self.budget.open)
        self.guard: Guard | None = None  # for those who did not choose the rate themselves
        self.position = Position()
        self.waiting = False  # for the next batch: nothing of the coming update has been done
        self._batches = self._feed()
        self._seconds, self._clock = 0.0, perf_counter()  # spent up to that moment

    def _bind(self) -> None:
        """Let a schedule given as lr= learn how long the run is."""
        if not isinstance(self.optimizer, optim.Optimizer):
            return
        if self.budget.steps is not None:
            self.optimizer.bind(self.budget.steps)
            return
        schedules = [group["schedule"] for group in self.optimizer.param_groups if group.get("schedule") is not None]
        if any(self.budget.open or hasattr(schedule, "over") for schedule in schedules):
            raise ValueError(
                "Without steps= or epochs= it is not known where the run ends: give lr a number, and the schedule to "
                "the run."
            )

    def __iter__(self) -> Iterator[Step]:
        """Yield a Step after each update, until the budget is spent."""
        self.model.train()
        self._clock = perf_counter()
        while not self.over():
            began = perf_counter()
            self.optimizer.zero_grad()
            batch = self._next_batch()  # 1. take a batch
            step = Step(self.position.step, self.position.epoch)
            self.gradient.compute(batch, step)  # 2. predict, 3. compute the loss, 4. backpropagate
            if self.guard is not None:
                step = self.guard.look(batch, step, self.done())
            if self.schedule is not None or self.budget.since is not None:
                self._set_rate()
            if not step.skipped:
                self._move(step)  # 5. move every parameter by minus the gradient times the rate
            self._finish(step, began)
            yield step  # 6. repeat
            if self.position.skipped_in_a_row >= PATIENCE:
                self._give_up(step)

    @property
    def steps(self) -> int | None:
        """The number of updates in the run; None where its budget is a time, or no end is known yet."""
        return self.budget.steps

    @property
    def endless(self) -> bool:
        """Whether no end is known yet."""
        return self.budget.endless

    def finish(self, steps: int | None = None) -> None:
        """Begin the final decay of an open run: in a line to rate zero, over a tenth of the steps done, at least 20.

        steps: where the line ends, instead. Called again, it begins anew there, from the full rate.
        """
        if self.schedule is None and self.endless:
            for group in self.optimizer.param_groups:
                group["initial_lr"] = float(group["lr"])
        self.budget.finish(self.position.step, steps)

    def over(self) -> bool:
        """Whether the budget is spent."""
        steps = self.budget.steps
        return (
            self.position.step >= steps if steps is not None else self.budget.spent(self.position.step, self.seconds())
        )

    def seconds(self) -> float:
        """Return how long the run has been going, over all sittings, with evaluations and checkpoints."""
        return self._seconds + perf_counter() - self._clock

    def done(self) -> float:
        """Return the part of the budget that is spent, 0 to 1; of an open run see `Budget.done`."""
        return self.budget.done(self.position.step, self.seconds())

    def entered(self, parts: int) -> bool:
        """Whether the last step of an open run has brought it into another of so many parts."""
        step = self.position.step
        return int(parts * self.budget.done(step, 0.0)) > int(parts * self.budget.done(step - 1, 0.0))

    def state_dict(self) -> dict[str, Any]:
        """Return all that has to survive, as one tree. Tensors are those of the run, not copies, as in PyTorch."""
        return {
            "model": self.model.state_dict(),
            "buffers": hidden_buffers(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "guard": None if self.guard is None else self.guard.state_dict(),
            "position": asdict(self.position),
            "budget": self.budget.state_dict(),
            "precision": self.precision.state_dict(),
            "memory": self.gradient.state_dict(),
            "data": self.source.state_dict(),
            "random": random_state(),
            "seconds": self.seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Exact for arrays and Datasets. Of an iterable, the batches of the epoch that were used are read again and
        dropped; an iterator has to stand where it stood.
        """
        self.budget.load_state_dict(state.get("budget"))
        self.model.load_state_dict(state["model"])
        restore_buffers(self.model, state["buffers"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        if self.guard is not None and state.get("guard") is not None:
            self.guard.load_state_dict(state["guard"])
        self.position = Position(**state["position"])
        self.precision.load_state_dict(state["precision"])
        self.gradient.load_state_dict(state["memory"])
        self.source.load_state_dict(state["data"])
        self.read_again()
        self._seconds, self._clock = state["seconds"], perf_counter()
        restore_random_state(state["random"])

    def say_with(self, say: Callable[[str], None]) -> None:
        """Have what a person should know during the run said by this function; else it is not said."""
        self.gradient.say = self.source.say = say
        if self.guard is not None:
            self.guard.say = say

    def read_again(self) -> None:
        """Begin to read the data anew where the run stands, when what read it has ended."""
        self._batches = self._feed()

    def close(self) -> None:
        """Leave the model as it was found, end the processes that read the data."""
        self.gradient.close()
        self._batches.close()  # else it keeps the processes that read the data until it is collected
        self.source.close()

    def _next_batch(self) -> Any:
        self.waiting = True
        batch = next(self._batches)
        self.waiting = False
        return batch

    def _feed(self) -> Generator[Any]:
        """Yield the batches of one epoch after another, and keep the place."""
        while True:
            for batch in self.source.epoch(self.position.epoch, self.position.batch):
                self.position.batch += 1
                yield batch if self._on_cpu else to_device(batch, self.device)
            if self.position.batch == 0:
                raise ValueError(self._ended())
            self.position.epoch, self.position.batch = self.position.epoch + 1, 0

    def _ended(self) -> str:
        if self.position.step == 0:
            return "The data gave no batches. An iterator can be read only once: was it used before?"
        return (
            f"The data ended after {self.position.step} batches, but the run has {self.budget}. An iterator can "
            f"be read only once: pass a list or a DataLoader, which can be read again, or steps={self.position.step}."
        )

    def _set_rate(self) -> None:
        step = self.position.step
        factor = 1.0 if self.schedule is None else self.schedule(*self.budget.place(step, self.seconds()))
        factor *= self.budget.fall(step) * (1.0 if self.guard is None else self.guard.factor)
        for group in self.optimizer.param_groups:
            rate = group.setdefault("initial_lr", float(group["lr"])) * factor
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _move(self, step: Step) -> None:
        if self.clip is not None and not self._clip(step, self.clip):
            return
        before = 0 if self._stats is None else self._stats.skipped
        step.skipped = self.precision.step(self.optimizer)
        if self._stats is not None:
            step.skipped |= self._stats.skipped > before
        self.average.update(self.position.step, self.budget.left(self.position.step + 1))

    def _clip(self, step: Step, bound: float) -> bool:
        """Bound the gradient; return whether there is a step to make with it."""
        self.precision.unscale(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, bound)
        step.record_norm(norm)
        step.skipped = not self.precision.scales and norm.device.type == "cpu" and not math.isfinite(norm.item())
        return not step.skipped

    def _finish(self, step: Step, began: float) -> None:
        position, now = self.position, perf_counter()
        position.step += 1
        if step.skipped:
            position.skipped, position.skipped_in_a_row = position.skipped + 1, position.skipped_in_a_row + 1
        else:
            position.skipped_in_a_row = 0
        self._seconds, self._clock = self._seconds + now - self._clock, now
        step.lr = float(self.optimizer.param_groups[0]["lr"])
        step.read_norm_with(self._gradient_norm)
        step.seconds = now - began

    def _gradient_norm(self, index: int) -> torch.Tensor | float | None:
        if index != self.position.step - 1:
            return None  # the gradients of that step are gone
        known = None if self._stats is None else self._stats.gradient_norm
        if known is not None:
            return known
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if len(gradients) > FEW or any(gradient.is_sparse for gradient in gradients):
            return nn.utils.get_total_norm(gradients)
        squares = [float(torch.linalg.vector_norm(gradient)) ** 2 for gradient in gradients]
        return math.sqrt(sum(squares)) if gradients else None

    def _give_up(self, step: Step) -> None:
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
        checks.check_device(device)
        model.to(device)
    first = next(model.parameters(), None)
    return torch.device(device or "cpu") if first is None else first.device
