"""The gradient of a batch: predict, compute the loss, backpropagate; at once, or in parts that fit into memory."""

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from steepest.data import count_samples, describe
from steepest.loop import checks
from steepest.loop.activations import recompute, repeated_blocks, saved_bytes
from steepest.loop.microbatch import Mean, Microbatch, out_of_memory, release_memory
from steepest.loop.precision import Precision
from steepest.loop.step import Step
from steepest.loop.task import Loss
from steepest.snapshot import random_state, restore_random_state


class Gradient:
    """Computes the gradient of the loss on a batch, into `.grad` of every weight.

    microbatch: see `Microbatch`. checkpoint_activations: True, False, or "auto": from the moment when memory runs out.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, precision: Precision, microbatch: Any, checkpoint_activations: bool | str
    ) -> None:
        if checkpoint_activations not in (True, False, "auto"):
            raise ValueError(f'checkpoint_activations is True, False or "auto"; received {checkpoint_activations!r}.')
        self.model, self.loss, self.precision = model, loss, precision
        self.microbatch = Microbatch(microbatch)
        self.say: Callable[[str], None] = lambda text: None
        self._undo: Callable[[], None] | None = None
        self._untold = checkpoint_activations is not False
        self._whole = microbatch is None and checkpoint_activations != "auto"
        self._may_recompute = checkpoint_activations == "auto" and bool(repeated_blocks(model))
        if checkpoint_activations is True:
            self._undo = recompute(model)

    def compute(self, batch: Any, step: Step) -> None:
        """Add the gradient of a batch to `.grad`, and tell the step its loss. Where a loss is not finite, skip it."""
        if self._untold and self._undo is not None:
            self._untold = False
            self._tell_saved(batch)
        if self._whole:
            self._at_once(batch, step)
            return
        start = self._start()
        while self._ran_out(batch, step):
            release_memory()
            self._start_again(start)
            self._save_memory(batch)

    def _at_once(self, batch: Any, step: Step) -> None:
        loss, others, _ = self._predict(batch, 1, step)
        known = loss.item() if loss.is_cpu else loss.detach()  # on a CPU reading it waits for nothing
        step.record_loss(known, others)
        if loss.is_cpu and not isfinite(known):
            step.skipped = True
        else:
            self.precision.backward(loss)

    def _accumulate(self, batch: Any, step: Step) -> None:
        parts = self.microbatch.parts(batch)
        if len(parts) == 1:
            self._at_once(batch, step)
            return
        whole, mean = sum(samples for _, samples in parts), Mean()
        for part, samples in parts:
            loss, others, weight = self._predict(part, samples, step)
            mean.add({**others, "loss": loss.detach()}, weight)
            if loss.is_cpu and not isfinite(loss.item()):
                step.skipped = True
            else:
                self.precision.backward(loss * (weight / whole))
        self._divide(mean.weight, whole)
        means = dict(mean.items())
        step.record_loss(means.pop("loss"), means)

    def _divide(self, weight: Any, whole: int) -> None:
        """Make a gradient of parts that were weighed before the weight of all was known that of their mean."""
        if isinstance(weight, int | float) and weight == whole:
            return
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, whole / weight)  # pyright: ignore[reportPrivateImportUsage]

    def _predict(self, batch: Any, samples: int, step: Step) -> tuple[Tensor, dict[str, Any], Any]:
        try:
            outputs = self.precision.call(self.loss, self.model, batch)
            if type(outputs) is Tensor and outputs.requires_grad and outputs.ndim == 0:
                return outputs, {}, samples
            loss, others, weight = checks.split_outputs(outputs, samples)
            checks.check_loss(loss)
        except Exception as error:
            error.add_note(f"This was step {step.index}, with the batch {describe(batch)}.")
            raise
        return loss, others, weight

    def _ran_out(self, batch: Any, step: Step) -> bool:
        """Compute the gradient; return whether memory ran out meanwhile."""
        try:
            self._accumulate(batch, step)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return True  # the error is let go here: it holds on to all tensors of the attempt
        return False

    def _start(self) -> tuple[dict[str, Any], list[Tensor]]:
        """Return what an attempt changes besides gradients: random numbers, and the statistics of batch norms."""
        return random_state(), [buffer.clone() for buffer in self.model.buffers()]

    def _start_again(self, start: tuple[dict[str, Any], list[Tensor]]) -> None:
        random, buffers = start
        restore_random_state(random)
        for buffer, value in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(value)
        self.model.zero_grad()

    def _save_memory(self, batch: Any) -> None:
        """Do what is left to do against memory that ran out: first recompute, then halve."""
        samples = min(self.microbatch.size or count_samples(batch), count_samples(batch))
        if self._may_recompute:
            self._may_recompute = False
            self._undo = recompute(self.model)
            self.say(f"memory ran out with {samples} samples at a time: activations are recomputed from here on")
        elif self.microbatch.automatic and self.microbatch.shrink(batch):
            self.say(f"memory ran out with {samples} samples at a time: {self.microbatch.size} from here on")
        else:
            raise MemoryError(
                f"Memory ran out with {samples} sample{'s' * (samples > 1)} at a time; the batch is {describe(batch)}."
            )

    def _tell_saved(self, batch: Any) -> None:
        """Say what recomputing saves: two samples are predicted both ways, so that it takes no memory to know it."""
        part, samples = Microbatch(2).parts(batch)[0]
        start, kept = self._start(), []
        try:
            for recomputed in (True, False):
                if not recomputed:
                    self.close()
                with saved_bytes(self.model) as count:
                    self.precision.call(self.loss, self.model, part)
                    kept.append(count() / samples / 1e6)
        except Exception:  # a loss that takes no two samples of a batch: what is saved is not known then
            return
        finally:
            self._undo = self._undo or recompute(self.model)
            self._start_again(start)
        now, before = kept
        self.say(f"activations are recomputed: {now:.3g} MB a sample are kept in place of {before:.3g}")

    def state_dict(self) -> dict[str, Any]:
        """Return what was found out about memory: the same run takes the same parts again."""
        return {"microbatch": self.microbatch.size, "recompute": self._undo is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was found out, where it was left to be found out."""
        if self.microbatch.automatic:
            self.microbatch.size = state["microbatch"]
        if self._may_recompute and state["recompute"]:
            self._may_recompute = False
            self._undo = recompute(self.model)

    def close(self) -> None:
        """Let the model compute as it did."""
        if self._undo is not None:
            self._undo()
            self._undo = None
