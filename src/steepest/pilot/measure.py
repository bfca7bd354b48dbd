"""What the pilot finds out about a model before the first step, and what it makes of it: a plan."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from steepest.data import count_samples, describe
from steepest.loop import Loss
from steepest.loop.checks import check_loss, split_outputs
from steepest.pilot.choice import assign
from steepest.pilot.folding import Fold, Inputs
from steepest.pilot.noise import AT
from steepest.pilot.note import Found, decisions
from steepest.pilot.output import Output, measure_output
from steepest.pilot.rescale import rescale, undo
from steepest.pilot.trace import Ends, find_ends, hooks
from steepest.record import Plan
from steepest.snapshot import same_random_state_after

RATE, DECAY, SCHEDULE = 0.01, 0.01, "warmup(0.05) * linear()"
RATE_OF_EQUATIONS = 0.03
"""Of a loss that is made of derivatives: an equation has no noise."""

TRAVEL = 10.0
"""Of a model of one layer: so many units its weights can move by, at a rate that falls to half of this in the mean."""

SCHEDULE_OF_TRAINED = "warmup(0.2) * warmup(0.2) * linear()"
"""Of a model that knows something: its first steps are so small that it forgets nothing by them."""

OPEN, OPEN_OF_TRAINED = "warmup(50)", "warmup(100) * warmup(100)"
"""The same of a run without a budget, whose rate stays until it is told to end."""

GOOD = 0.1
"""A model knows something when its predictions fit their own targets better, by such a part of the loss, than those of
other samples."""

HALF, TWICE = "half the rate", "twice the rate"
REGRET = {HALF: 0.18, TWICE: 0.01}
REGRET_OF_SQUARES = {HALF: 0.24, TWICE: -0.01}
REGRET_OF_EQUATIONS = {HALF: 2.2, TWICE: 0.6}
"""By what part the loss ends higher, in the median of `python benchmarks/pilot regret`: it differs by much more between
tasks than between these kinds."""

ENOUGH = 256
"""Samples that tell how inputs deviate."""

SHORTEST = 50
"""Runs of fewer steps are not worth a measurement."""

LONG = 500
"""Runs of fewer steps do not pay for reading the noise of the gradient."""

RAW = 3.0
"""First layers that add up to a larger root mean square are begun anew, in units of their inputs."""

FORWARD = 1 / 3
"""What a forward pass costs, in updates."""


def measure(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    steps: float | None,
    *,
    rounding: str = "nearest",
    forward: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Plan:
    """Return the plan for a model, which is left as it is. Raises ValueError when none of its weights can be trained.

    batches: two are used. steps: of the run; infinite without a budget, None where it is measured in time. rounding: of
    weights in 16 bits, as `steepest.optim.Optimizer` has it. forward: the context in which the run predicts.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"The model {type(model).__name__} has no parameter that requires a gradient, so there is nothing to train."
        )
    pilot = Pilot(model, loss, forward)
    found = Found()
    if (steps is None or steps >= SHORTEST) and rounding == "nearest":  # units are for weights of 32 bits
        found = pilot.look(_first(batches, steps))
    readings = len(AT) if LONG <= (steps or 0) < math.inf else 0
    settings = {"rounding": rounding, "readings": readings, **settle(found, pilot.names, steps)}
    spent = math.ceil(pilot.spent) + readings
    return Plan(decisions(found, settings, assign(model, settings), spent), settings, spent)


def _first(batches: Iterable[Any], steps: float | None) -> list[Any]:
    """Return two batches, or as many as hold ENOUGH samples, if looking at them costs no more than 1 % of the run."""
    most = 2 if steps is None else max(2, int(min(steps / 100 / FORWARD, ENOUGH)))
    taken: list[Any] = []
    samples = 0
    for batch in islice(batches, most):
        taken.append(batch)
        samples += count_samples(batch)
        if len(taken) > 1 and samples >= ENOUGH:
            break
    return taken


def settle(found: Found, names: dict[Tensor, str], steps: float | None) -> dict[str, Any]:
    """Return what the facts come to, as plain data; steps: of the run, if they are known."""
    is_open = steps == math.inf
    usual, of_trained = (OPEN, OPEN_OF_TRAINED) if is_open else (SCHEDULE, SCHEDULE_OF_TRAINED)
    rate, schedule, forgets, output, regret = RATE, usual, True, None, REGRET
    if found.ends.differentiated:
        rate, forgets, regret = RATE_OF_EQUATIONS, False, REGRET_OF_EQUATIONS
    elif found.knows > GOOD:
        schedule = of_trained
    elif found.ends.last is not None and found.ends.first == [found.ends.last]:
        rate = max(RATE, TRAVEL / (steps or math.inf))
    if found.output is not None and found.ends.last is not None:
        regret = REGRET_OF_SQUARES
        layer = names[found.ends.last.weight].removesuffix("weight").removesuffix(".")
        output = {"layer": layer, "size": found.output.size, "shift": found.output.shift.tolist()}
    return {
        "open": is_open, "rate": rate, "decay": DECAY, "forgets": forgets, "schedule": schedule, "output": output,
        "inputs": {names[fold.weight]: fold.plain() for fold in found.folds},
        "anew": [names[fold.weight] for fold in found.anew], "rescaled": found.rescaled, "regret": dict(regret),
    }  # fmt: skip


class Pilot:
    """Measures a model on its first batches. Every evaluation of the loss is counted in `spent`, in updates."""

    def __init__(self, model: nn.Module, loss: Loss, forward: Callable[[], AbstractContextManager[Any]]) -> None:
        self.model, self._loss, self._forward = model, loss, forward
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.spent = 0.0

    def look(self, batches: list[Any]) -> Found:
        """Measure the model, and leave it as it is."""
        found = Found()
        if not batches:
            return found
        with self.as_it_was([]):
            found.ends = find_ends(self.model, lambda: self.evaluate(batches[0], gradient=True))
        if found.ends.differentiated:
            return found
        try:
            with self.as_it_was(found.ends.first):
                knows = self._knows(batches[:2])
                folds = self._inputs(found.ends, batches)
                anew = self._begin_anew(folds, batches[:2], knows)
                with self._rescaled(batches[0], knows) as rescaled:
                    output = self._output(found.ends, batches[0])
        except Exception as error:  # a loss may need gradients, or state, that this way of asking does not give it
            found.trouble = (str(error).splitlines() or [type(error).__name__])[0]
            return found
        found.knows, found.folds, found.anew = knows, folds, anew
        found.rescaled, found.output = rescaled, output
        return found

    def evaluate(self, batch: Any, gradient: bool) -> Tensor:
        """Return the loss of a batch; with the same random numbers each time (dropout)."""
        self.spent += 1 if gradient else FORWARD
        try:
            with same_random_state_after(), torch.set_grad_enabled(gradient), self._forward():
                loss = split_outputs(self._loss(self.model, batch), 1)[0]
            if gradient:
                check_loss(loss)
        except Exception as error:
            error.add_note(f"This was before the first step, with the batch {describe(batch)}.")
            raise
        return loss if gradient else loss.detach()

    @contextmanager
    def as_it_was(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        """Leave buffers, and the weights of these layers, as if the body had not run."""
        tensors = [*self.model.buffers(), *(parameter for layer in layers for parameter in layer.parameters())]
        values = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)

    def _inputs(self, ends: Ends, batches: list[Any]) -> list[Fold]:
        """Measure what comes into the first layers."""
        gathered = {layer: Inputs(layer) for layer in ends.first}
        if not gathered:
            return []

        def take(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            gathered[layer].add(inputs[0])

        with hooks(list(gathered), take):
            for batch in batches:
                self.evaluate(batch, gradient=False)
        return [fold for inputs in gathered.values() for fold in inputs.folds()]

    def _begin_anew(self, folds: list[Fold], batches: list[Any], knows: float) -> list[Fold]:
        """Begin first layers anew in units of their inputs, where raw ones drown them.

        If the model knows something, only where the loss does not rise by it. A drowned layer of one that knows nothing
        may well have a lower loss, for it says the same of every sample.
        """
        raw = [fold for fold in folds if _size(fold) > RAW]
        before = self._sum(batches) if raw and knows > GOOD else math.inf
        for fold in raw:
            fold.begin_anew()
        if before == math.inf or self._sum(batches) <= before + 0.02 * abs(before):
            return raw
        for fold in raw:
            fold.undo()
        return []

    @contextmanager
    def _rescaled(self, batch: Any, knows: float) -> Iterator[dict[str, float]]:
        """Bring layers to unit size where that is called for; what a model knows may be in its sizes."""
        factors = {} if knows > GOOD else rescale(self.model, lambda: self.evaluate(batch, gradient=False))
        try:
            yield factors
        finally:
            undo(self.model, factors)

    def _sum(self, batches: list[Any]) -> float:
        return sum(float(self.evaluate(batch, gradient=False)) for batch in batches)

    def _knows(self, batches: list[Any]) -> float:
        """Return the part of the loss that is saved because predictions are of their own samples; 0 of a new model.

        The smaller one of both batches: a new one may be lucky in one.
        """
        own = [float(self.evaluate(batch, gradient=False)) for batch in batches]
        with hooks([self.model], _of_another_sample):
            other = [float(self.evaluate(batch, gradient=False)) for batch in batches]
        if not all(math.isfinite(loss) for loss in (*own, *other)) or 0 in other:
            return 0.0
        return min((b - a) / abs(b) for a, b in zip(own, other, strict=True))

    def _output(self, ends: Ends, batch: Any) -> Output | None:
        """Measure the scale of what is predicted; None where the loss is not quadratic in it."""
        if ends.last is None:
            return None
        found = measure_output(ends.last, lambda: self.evaluate(batch, gradient=True))
        return found if found is not None and found.quadratic else None


def _of_another_sample(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Give every sample the prediction of its neighbour in the batch."""
    if isinstance(output, Tensor):
        return output.roll(1, 0) if output.ndim and len(output) > 1 else output
    if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
        return type(output)(_of_another_sample(module, inputs, part) for part in output)
    return output


def _size(fold: Fold) -> float:
    """Return the root mean square of what a first layer adds up."""
    weight = fold.weight.detach()
    moving = (weight * fold.scale * (fold.inverse != 0)).flatten(1).square().sum(1)
    return math.sqrt(float((moving + fold.shifted(weight).square()).mean()))
