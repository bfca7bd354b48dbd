"""Where the first number that is not finite came from: the step, the function, the line."""

import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steepest.doctor.history import Pass, Update, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.trial import opening
from steepest.doctor.twin import Twin

OWN = (os.path.dirname(torch.__file__) + os.sep,)
MINE = {"twin.py", "lab.py", "replay.py", "spy.py", "nonfinite.py", "trial.py", "fresh.py", "precision.py"}

MEANT = ("masked_fill", "where", "full", "new_full", "full_like", "fill_", "masked_fill_", "triu", "tril")
"""What writes an infinity that is meant, to hide places from a softmax."""


@dataclass(frozen=True)
class Op:
    """One call of a torch function. where: the line that made it. bad: of inputs; made_bad: whether an output is."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bad: tuple[str, ...]
    made_bad: bool
    where: str
    largest: float
    options: dict[str, Any] = field(default_factory=dict)


class Trace(TorchFunctionMode):
    """Notes each call of a torch function inside, and which of its numbers are not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Op] = []
        self._quiet = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if self._quiet or name in ("__get__", "__set__", "backward"):
            return output
        inputs = tuple(tensors((*args, *(kwargs or {}).values())))
        outputs = tuple(tensors(output))
        if (name.endswith("_") and not name.endswith("__")) or name == "__setitem__":
            outputs = (*outputs, *inputs[:1])
        bad = tuple(kind(each) for each in inputs)
        largest = max((_largest(each) for each in inputs if each.is_floating_point()), default=0.0)
        options = {key: value for key, value in (kwargs or {}).items() if not isinstance(value, Tensor)}
        made = any(kind(each) for each in outputs)
        self.calls.append(Op(name, inputs, outputs, bad, made, line_of(sys._getframe(1)), largest, options))
        return output


def kind(value: Tensor) -> str:
    """Return "nan", "inf" or "-inf" for the worst that is in a tensor, "" where all is finite."""
    if not value.is_floating_point() or value.is_sparse or bool(value.isfinite().all()):
        return ""
    if bool(value.isnan().any()):
        return "nan"
    return "inf" if bool((value == math.inf).any()) else "-inf"


def _largest(value: Tensor) -> float:
    finite = value.detach()[value.detach().isfinite()] if not value.is_sparse else value.detach().to_dense()
    return float(finite.abs().max()) if finite.numel() else 0.0


def line_of(frame: Any) -> str:
    """Return file:line of the innermost frame that is not torch's or an instrument's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not _foreign(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _foreign(name: str) -> bool:
    folder, base = os.path.split(name)
    return name.startswith(OWN) or name.startswith("<") or (folder == os.path.dirname(__file__) and base in MINE)


@dataclass(frozen=True)
class Culprit:
    """What made the first bad number: op, from finite inputs; or given, which came into the computation bad already."""

    op: Op
    given: Tensor | None = None


def culprit(trace: Trace, loss: Tensor) -> Culprit | None:
    """Return where a loss that is not finite comes from: back along what is not finite, to what is."""
    at: int | None = _last(trace.calls, len(trace.calls), loss)
    if at is None:
        at = next((place for place in reversed(range(len(trace.calls))) if trace.calls[place].made_bad), None)
    while at is not None:
        op = trace.calls[at]
        bad = _worst(op)
        if bad is None:
            return Culprit(op) if op.made_bad else None
        if op.name in ("softmax", "log_softmax") and kind(bad) == "-inf":
            return Culprit(op)
        source = _last(trace.calls, at, bad)
        if source is None:
            return Culprit(op, bad)
        if trace.calls[source].name in MEANT and not any(trace.calls[source].bad):
            return Culprit(op)
        at = source
    return None


def _last(calls: list[Op], before: int, value: Tensor) -> int | None:
    """Return the last call before a place that made a tensor."""
    return next((at for at in reversed(range(before)) if any(each is value for each in calls[at].outputs)), None)


def _worst(op: Op) -> Tensor | None:
    for wanted in ("nan", "inf", "-inf"):
        for each, is_bad in zip(op.inputs, op.bad, strict=True):
            if is_bad == wanted:
                return each
    return None


@dataclass(frozen=True)
class Scene:
    """The last state in which all was finite, and what came then. forward: whether the loss is not finite there.

    entries: how many entries of the gradient are not finite, and of how many.
    """

    twin: Twin
    update: Update
    of: Pass
    forward: bool
    entries: tuple[int, int]


def scene(lab: Lab) -> Scene | None:
    """Return what happened when the loss stopped being finite, by replay; None where it does not happen again."""
    key = ("scene", lab.event, lab.now if lab.event is None else 0)
    if key not in lab.notes:
        lab.notes[key] = _scene(lab)
    return lab.notes[key]


def _scene(lab: Lab) -> Scene | None:
    start = opening(lab)
    if start is None or lab.loss is None:
        return None
    if lab.event is None or math.isfinite(lab.history.losses[lab.event]):
        return None if _finite(lab.model) else _poisoned(lab)
    if start.step > lab.event or not _finite(start.model):
        start = lab.start
    if start is None or not _finite(start.model):
        return None
    updates = lab.remembered(start, lab.event - start.step + 1)
    if start.step + len(updates) <= lab.event:
        return None
    return _found(lab, start, updates)


def _poisoned(lab: Lab) -> Scene | None:
    """Return when weights ceased to be finite, where the loss did not."""
    for start in (lab.recent, lab.start):
        updates = lab.remembered(start, 100) if start is not None and _finite(start.model) else []
        replayed = lab.replay(start=start, count=len(updates)) if updates else None
        if start is not None and replayed is not None and not _finite(replayed.twin.model):
            return _found(lab, start, updates)
    return None


def _found(lab: Lab, start: Twin, updates: Sequence[Update]) -> Scene | None:
    last, twin = _last_finite(lab, start, len(updates))
    if twin is None:
        return None
    for update in updates[last : last + 2]:
        for backward in update.backwards:
            found = _gradient(lab, twin, backward.of)
            if found is None or found[0]:
                return Scene(twin, update, backward.of, found is None, found or (0, 0))
    return None


def _last_finite(lab: Lab, start: Twin, most: int) -> tuple[int, Twin | None]:
    """Return the largest number of updates after which the weights are still finite, and the copy then."""
    low, state, high = 0, start.copy(), most
    trials = [most - 1, most - 2]
    while low < high - 1:
        middle = trials.pop(0) if trials and low < trials[0] < high else (low + high) // 2
        replayed = lab.replay(start=start, count=middle)
        if replayed is not None and len(replayed.losses) == middle and _finite(replayed.twin.model):
            low, state = middle, replayed.twin
        else:
            high = middle
    return low, state


def _finite(model: nn.Module) -> bool:
    return all(bool(each.isfinite().all()) for each in model.parameters() if each.is_floating_point())


def _gradient(lab: Lab, twin: Twin, of: Pass) -> tuple[int, int] | None:
    """Return how many entries of the gradient are not finite, and of how many; None where the loss is not."""
    parameters = [each for each in twin.model.parameters() if each.requires_grad]
    value = lab.ask(twin.model, of)
    if not bool(value.isfinite()):
        return None
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    dense = [each.to_dense() if each.is_sparse else each for each in found if each is not None]
    return sum(int((~each.isfinite()).sum()) for each in dense), sum(each.numel() for each in dense)


def forward_culprit(lab: Lab, what: Scene, batch: Any = None) -> Culprit | None:
    """Return the function that made the loss of a scene what it is."""
    with Trace() as trace:
        value = lab.ask(what.twin.copy().model, what.of, batch)
    return culprit(trace, value)


@dataclass(frozen=True)
class Backward:
    """A function whose derivative is not finite where what came back to it was. name: as torch says it."""

    name: str
    where: str


def backward_culprit(lab: Lab, what: Scene) -> Backward | None:
    """Return the function in whose derivative the first bad number came up."""
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        value = lab.ask(what.twin.copy().model, what.of)
    found: list[Backward] = []
    handles = [node.register_hook(_looking(node, found)) for node in _nodes(value)]
    value.backward()
    for handle in handles:
        handle.remove()
    return found[0] if found else None


def _looking(node: Any, found: list[Backward]) -> Callable[[Any, Any], None]:
    def look(given_on: Any, given: Any) -> None:
        if any(kind(each) for each in tensors(list(given_on))) and not any(kind(each) for each in tensors(list(given))):
            found.append(Backward(node.name(), _line_in(node.metadata.get("traceback_", []))))

    return look


def _nodes(value: Tensor) -> list[Any]:
    found: dict[Any, None] = {}
    waiting = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [each for each, _ in node.next_functions]
    return [node for node in found if "AccumulateGrad" not in node.name()]


def _line_in(traceback: list[str]) -> str:
    for text in reversed(traceback):
        match = re.search(r'File "(.+?)", line (\d+)', text)
        if match and not _foreign(match[1]):
            return f"{match[1]}:{match[2]}"
    return ""


def grown(lab: Lab, what: Scene) -> bool:
    """Return whether the run had blown up before: its loss, or its weights, had grown far beyond what they were."""
    told = [each for each in lab.history.losses[: what.update.step] if math.isfinite(each)]
    first = max(lab.scale or 0.0, abs(told[0])) if told else 0.0
    if told and max(told[-5:]) > 3 * first:
        return True
    if lab.start is None:
        return False
    before = dict(lab.start.model.named_parameters())
    return any(
        float(each.detach().norm()) > 20 * float(before[name].detach().norm()) + 20 * each.numel() ** 0.5
        for name, each in what.twin.model.named_parameters()
        if name in before
    )
