"""The loss of one batch taken apart: what is called on the way, what the model is given and gives, and its graph."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.grammar import nodes
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Call, Seen, Spy
from steepest.doctor.twin import set_modes

VIEWS = {
    "view", "reshape", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "float", "double", "to",
    "contiguous", "__getitem__", "clone", "clamp", "clip", "movedim", "swapaxes", "view_as", "chunk", "split", "mT",
    "T", "type", "half", "bfloat16", "expand", "masked_select", "index_select", "select", "narrow", "clamp_min",
}  # fmt: skip
"""Functions that do not change what numbers mean."""


@dataclass
class Anatomy:
    """What was seen. model: the copy that was asked. inputs, outputs: tensors at the model's own call, if it had one.

    origins: id of a tensor of the copy -> id of the run's own. given: arguments of that call, the first if there are
    several.
    """

    model: nn.Module
    of: Pass
    value: Tensor
    seen: Seen
    inputs: list[Tensor]
    outputs: list[Tensor]
    origins: dict[int, int]
    given: tuple[Any, dict[str, Any]] | None = None
    _made: dict[int, Call] = field(default_factory=dict)

    def direct(self, tensor: Tensor) -> Call | None:
        """Return the call that a tensor comes from."""
        if not self._made:
            for call in self.seen.calls:
                for each in tensors(call.output):
                    self._made.setdefault(id(each), call)
        return self._made.get(id(tensor))

    def producer(self, tensor: Tensor) -> Call | None:
        """Return the call that a tensor comes from, looking through changes of shape and type."""
        call = self.direct(tensor)
        while call is not None and call.name in VIEWS and call.inputs:
            call = self.direct(call.inputs[0])
        return call

    def named(self, *names: str) -> list[Call]:
        """Return the calls of functions so called."""
        return [call for call in self.seen.calls if call.name in names]

    def gradients(self, wanted: list[Tensor]) -> list[Tensor | None]:
        """Return the gradient of the loss for each, None where none arrives."""
        able = [each for each in wanted if each.requires_grad]
        if not able or not self.value.requires_grad:
            return [None] * len(wanted)
        found = torch.autograd.grad(self.value, able, retain_graph=True, allow_unused=True)
        known = dict(zip([id(each) for each in able], found, strict=True))
        return [known.get(id(each)) for each in wanted]

    def leaves(self) -> list[nn.Parameter]:
        """Return the parameters in the graph, of the model or not."""
        found = [getattr(node, "variable", None) for node in nodes(self.value)]
        return [each for each in found if isinstance(each, nn.Parameter)]


def current(lab: Lab) -> Pass | None:
    """Return the batch that the update is of; the last one given out where no backward pass was heard."""
    update = lab.update
    return update.backwards[-1].of if update is not None and update.backwards else lab.tap.current


def anatomy(lab: Lab) -> Anatomy | None:
    """Return the loss of the batch at hand taken apart; None without a loss. It is kept until the look is over."""
    of = current(lab)
    if lab.loss is None or of is None:
        return None
    if "anatomy" not in lab.notes:
        lab.notes["anatomy"] = dissect(lab, of)
    return lab.notes["anatomy"]


def dissect(lab: Lab, of: Pass, batch: Any = None, mode: Any = None) -> Anatomy:
    """Take the loss of a batch apart. batch: another one in its place. mode: a torch function mode to be in."""
    memo: dict[int, Any] = {}
    model = copy.deepcopy(lab.model, memo)
    set_modes(model, lab.modes)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    given: list[tuple[Any, dict[str, Any]]] = []

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given.append((args, kwargs))
        inputs.extend(tensors([*args, *kwargs.values()]))
        outputs.extend(tensors(output))

    handle = model.register_forward_hook(note, with_kwargs=True)
    with Spy() as spy:
        if mode is None:
            value = lab.ask(model, of, batch)
        else:
            with mode:
                value = lab.ask(model, of, batch)
    handle.remove()
    origins = {id(new): old for old, new in memo.items() if isinstance(new, Tensor)}
    return Anatomy(model, of, value, spy.seen, inputs, outputs, origins, given[0] if given else None)


def seldom(lab: Lab, what: str, often: int = 4) -> bool:
    """Return whether something is to be looked at now: at the first looks, and where steps are few since the last."""
    looks = lab.notes.setdefault(("looks", what), [])
    wanted = len(looks) < often or lab.now >= 2 * looks[-1]
    if wanted:
        looks.append(lab.now)
    return wanted
