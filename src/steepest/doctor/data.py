"""What is in the batches: their tensors, which of them a model is given, and numbers of what enters its layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch of the same make with another tensor in the place of each."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        made = {name: mapped(each, change) for name, each in value.items()}
        return made if type(value) is dict else type(value)(made)
    if isinstance(value, list | tuple):
        each = [mapped(one, change) for one in value]
        return type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    return value


def filled(value: Any, new: Sequence[Tensor]) -> Any:
    """Return a batch of the same make with these tensors in it, in order."""
    left = iter(new)
    return mapped(value, lambda _: next(left))


def rows(batch: Any) -> int | None:
    """Return how many rows all tensors of a batch have, None where they differ or there are none."""
    counts = {len(each) if each.ndim else 0 for each in tensors(batch)}
    return counts.pop() if len(counts) == 1 and 0 not in counts else None


def pooled(passes: Sequence[Pass], most: int = 2000) -> list[Tensor] | None:
    """Return the rows of several batches, a tensor for each place of a batch; None where they do not fit together."""
    found = [list(tensors(each.batch)) for each in passes if rows(each.batch)]
    found = [each for each in found if [one.shape[1:] for one in each] == [one.shape[1:] for one in found[0]]]
    if len(found) < max(2, len(passes) // 2):
        return None
    return [torch.cat([each.detach() for each in column])[:most] for column in zip(*found, strict=True)]


@dataclass(frozen=True)
class Roles:
    """Places of the tensors of a batch that the model is given, and of the one it is to predict, if there is one.

    known: whether a criterion was seen to take it; otherwise it is but what the model is not given.
    """

    inputs: list[int]
    target: int | None
    known: bool


def roles(lab: Lab) -> Roles:
    """Return which tensors of a batch are what; asked once."""
    if "roles" not in lab.notes:
        passes = lab.passes(1)
        lab.notes["roles"] = _roles(lab, passes[0]) if passes and lab.loss is not None else Roles([], None, False)
    return lab.notes["roles"]


def _roles(lab: Lab, of: Pass) -> Roles:
    given: list[Tensor] = []
    model = lab.twin()

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.extend((*tensors(args), *tensors(list(kwargs.values()))))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    seen = lab.watched(of, model)
    handle.remove()
    own = list(tensors(of.batch))
    inputs = [place for place, each in enumerate(own) if any(_same(each, other) for other in given)]
    wanted = [call.target for call in seen.criteria[:1]]
    targets = [place for place, each in enumerate(own) if any(_same(each, other) for other in wanted)]
    if targets:
        return Roles(inputs, targets[-1], True)
    rest = [place for place in range(len(own)) if place not in inputs] if inputs else []
    return Roles(inputs, rest[0] if len(rest) == 1 and not seen.criteria else None, False)


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether one is the other, or has the same numbers in another type or shape."""
    if one is other or (one.data_ptr() == other.data_ptr() and one.numel() == other.numel()):
        return True
    if one.numel() != other.numel() or one.is_sparse or other.is_sparse:
        return False
    return bool((one.detach().reshape(-1).double() == other.detach().reshape(-1).double()).all())


@dataclass(frozen=True)
class Entry:
    """A layer that data enter. module: its name. values: what it was given, features last. axis: where they were."""

    module: str
    values: Tensor
    axis: int
    normalised: bool

    @property
    def mean(self) -> Tensor:
        """Of each feature."""
        return self.values.mean(0)

    @property
    def deviation(self) -> Tensor:
        """Of each feature."""
        return self.values.std(0, correction=0)

    @property
    def size(self) -> float:
        """Root of the mean square of all."""
        return float(self.values.square().mean().sqrt())


def entries(lab: Lab) -> list[Entry]:
    """Return the layers that are given floats which no parameter has touched; the model itself where none is."""
    if "entries" not in lab.notes:
        found: dict[str, list[Tensor]] = {}
        axes: dict[str, int] = {}
        model = lab.twin()
        handles = [
            module.register_forward_pre_hook(_noting(found, axes, name))
            for name, module in model.named_modules()
            if name == "" or list(module.parameters(recurse=False))
        ]
        for of in lab.passes(12):
            lab.ask(model, of)
        for handle in handles:
            handle.remove()
        inner = {name: values for name, values in found.items() if name} or found
        modules = dict(model.named_modules())
        lab.notes["entries"] = [
            Entry(name, torch.cat(values).double(), axes[name], isinstance(modules[name], NORMS))
            for name, values in inner.items()
            if len({each.shape[1] for each in values}) == 1
        ]
    return lab.notes["entries"]


def _noting(found: dict[str, list[Tensor]], axes: dict[str, int], name: str) -> Callable[..., None]:
    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        value = args[0] if args else None
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim:
            return
        if value.requires_grad and not value.is_leaf:
            return
        axis = axis_of(module, value)
        axes[name] = axis
        found.setdefault(name, []).append(flat(value.detach(), axis)[:4096])

    return note


def axis_of(module: nn.Module, value: Tensor) -> int:
    """Return which axis is that of features, counted from the end."""
    if isinstance(module, nn.Conv1d) and value.ndim == 3:
        return -2
    return -1 if value.ndim < 4 else 1 - value.ndim


def flat(value: Tensor, axis: int) -> Tensor:
    """Return rows of features."""
    return value.reshape(-1, 1) if value.ndim == 1 else value.movedim(axis, -1).reshape(-1, value.shape[axis])


def standardised(found: Sequence[Entry]) -> Change:
    """Return the change that gives each feature which enters mean 0 and deviation 1."""

    def prepare(twin: Twin) -> None:
        modules = dict(twin.model.named_modules())
        for entry in found:
            modules[entry.module].register_forward_pre_hook(_standard(entry))

    return Change("standardised input", prepare=prepare)


def _standard(entry: Entry) -> Callable[..., Any]:
    flat_ones = entry.deviation <= 1e-9 * (entry.size + 1e-30)
    mean, deviation = entry.mean, entry.deviation.masked_fill(flat_ones, 1.0)

    def change(module: nn.Module, args: tuple[Any, ...]) -> Any:
        value = args[0]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
        if value.ndim == 1:
            return ((value - mean.to(value)) / deviation.to(value), *args[1:])
        moved = (value.movedim(entry.axis, -1) - mean.to(value)) / deviation.to(value)
        return (moved.movedim(-1, entry.axis), *args[1:])

    return change


def where_bad(batch: Any) -> tuple[int, int, int] | None:
    """Return place, first bad row and number of bad rows of the first tensor that is not finite; None if all are."""
    for place, each in enumerate(tensors(batch)):
        if each.is_floating_point() and not bool(each.isfinite().all()):
            bad = ~each.reshape(len(each) if each.ndim else 1, -1).isfinite().all(1)
            return place, int(bad.nonzero()[0]), int(bad.sum())
    return None
