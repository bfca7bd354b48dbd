"""Which parameters are stepped together: same device, dtype, step count and, for matrix rules, shape."""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from steepest.formula.symbol import ELEMENT
from steepest.groups import stack_shape
from steepest.kernels.batch import Batch, Form
from steepest.optim.graph import Traces
from steepest.rule import Rule

_address, _contiguous, _bytes = Tensor.data_ptr, Tensor.is_contiguous, attrgetter("nbytes")


LINE = 64  # numbers: at least a cache line, also for the narrowest dtype; what Triton's wide loads need is less


class Kind(NamedTuple):
    """What the members of a batch have in common. dense: their memory has no gaps, so kernels may run over it."""

    form: Form
    steps: int
    dense: bool
    plain: bool
    kernel: bool
    states: tuple[tuple[str, torch.dtype | None], ...] = ()


class States(defaultdict):
    """The state of each parameter, as torch keeps it; `changes` lets a step notice that somebody replaced an entry."""

    changes = 0

    def __setitem__(self, key: Tensor, value: dict[str, Any]) -> None:
        self.changes += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Tensor) -> None:
        self.changes += 1
        super().__delitem__(key)

    def pop(self, *arguments: Any) -> Any:
        """Take an entry out."""
        self.changes += 1
        return super().pop(*arguments)

    def clear(self) -> None:
        """Take all entries out."""
        self.changes += 1
        super().clear()

    def update(self, *others: Any, **more: Any) -> None:
        """Put entries in."""
        self.changes += 1
        super().update(*others, **more)


class Part(NamedTuple):
    """The parameters that a batch has of one group. place: of the group."""

    place: int
    traces: Traces
    parameters: list[Tensor]


class Members:
    """A batch of an optimizer: parameters, their states, their count of steps.

    What is asked at every step is written for a thousand tensors: one list, one C function over it.
    """

    def __init__(self, kind: Kind, parts: list[Part], state: dict[Tensor, dict[str, Any]], rule: Rule) -> None:
        self.kind, self.parts, self.rule = kind, parts, rule
        self.parameters = parameters = [p for part in parts for p in part.parameters]
        units = [len(part.parameters) * kind.form.blocks for part in parts]
        lines = np.repeat(np.arange(len(parts)), units) if len(parts) > 1 else None
        self.entries = [state[p] for p in parameters]
        self.steps = kind.steps
        self.step = torch.tensor(
            float(kind.steps), device="cpu"
        )  # one for all of them, under the name that torch gives it
        self.work = parameters if kind.dense else [_dense(p) for p in parameters]
        self.addresses = list(map(_address, parameters))
        shapes = [(count, *part.traces.matrix) for count, part in zip(units, parts, strict=True) if part.traces.matrix]
        self.batch = Batch(kind.form, self.work, kind.dense, lines, None if kind.form.matrix else shapes or None)
        self.bytes = list(map(_bytes, parameters))
        # A gradient that torch negates lazily (the imaginary part of a conjugate) has stride 2, and passes for
        # contiguous where there is one element.
        self.single = [place for place, p in enumerate(parameters) if p.numel() == 1]
        self.tensors: dict[str, list[Tensor]] = {}  # the states as they were found, to notice when one is replaced
        for entry in self.entries:
            entry["step"] = self.step

    def advance(self) -> None:
        """Count a step."""
        self.steps += 1
        self.step.fill_(self.steps)

    def provide(self, states: dict[str, str], state_dtype: torch.dtype | None) -> None:
        """Make sure that the states a program uses are there: those that are not begin at zero.

        A tensor that somebody replaced in `optimizer.state` is taken up.
        """
        for name, shape in states.items():
            before = self.tensors.get(name, [])
            try:
                now = [entry[name] for entry in self.entries]
                if len(before) == len(now) and all(map(is_, before, now)):
                    continue
            except KeyError:
                pass
            if shape == ELEMENT:
                self._fit(name, state_dtype)
            else:
                self._stack(name, shape)
            self.tensors[name] = [entry[name] for entry in self.entries]

    def _fit(self, name: str, state_dtype: torch.dtype | None) -> None:
        """Allocate the states that are missing; bring those that are there into the memory order of the parameter."""
        dtype = self._dtype(name, state_dtype)
        fresh = iter(self._zeros([w for w, e in zip(self.work, self.entries, strict=True) if name not in e], dtype))
        for entry, work in zip(self.entries, self.work, strict=True):
            if name in entry:
                entry[name] = _settled(name, entry[name], work)
                continue
            entry[name] = next(fresh)
            if name == "ema" and self.steps:  # asked for in the middle of a run, the mean begins here
                entry[name].copy_(work)
        self.batch.states[name] = [entry[name] for entry in self.entries]

    def _zeros(self, like: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return a tensor of zeros for each of these, in its memory order.

        Kernels get them as pieces of one allocation: to ask a thousand small tensors where they are costs as much as to
        step them, and half of that when they share their storage.
        """
        if not (like and self.kind.kernel):
            return [torch.zeros_like(work, dtype=dtype, requires_grad=False) for work in like]
        sizes = [-(-work.numel() // LINE) * LINE for work in like]
        pieces = torch.zeros(sum(sizes), dtype=dtype, device=like[0].device).split(sizes)
        return [
            piece.as_strided(work.shape, work.stride(), piece.storage_offset())
            for piece, work in zip(pieces, like, strict=True)
        ]

    def _dtype(self, name: str, state_dtype: torch.dtype | None) -> torch.dtype:
        form = self.kind.form
        dtype = (None if name == "ema" else state_dtype) or form.computed_in
        if name == "compensation":  # what rounding lost is as small to the parameter as the parameter's last bit to it
            dtype = form.dtype
        if form.dtype.is_complex:
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        return dtype

    def _stack(self, name: str, shape: str) -> None:
        """Put scalar or matrix-shaped states of all members into one tensor, of which each member keeps a view."""
        form, first = self.kind.form, self.parameters[0]
        each = state_shape(shape, first, form.blocks)
        dtype = form.computed_in if shape else torch.float64
        parts = [
            _checked(name, entry[name], each).to(first.device, dtype)
            if name in entry
            else torch.zeros(each, dtype=dtype, device=first.device)
            for entry in self.entries
        ]
        stack = torch.stack(parts)
        for entry, part in zip(self.entries, stack.unbind(0), strict=True):
            entry[name] = part
        self.batch.stacked[name] = stack.view(len(parts) * form.blocks, *each[form.blocks > 1 :])

    def gradients(self) -> list[Tensor] | None:
        """Return the gradients as kernels take them, or None if one is missing or a parameter is not what it was."""
        if list(map(_address, self.parameters)) != self.addresses:
            return None
        gradients = [p.grad for p in self.parameters]
        if self.kind.plain and self._plain(gradients):
            return gradients  # type: ignore[return-value]
        if any(gradient is None for gradient in gradients) or list(map(_bytes, self.parameters)) != self.bytes:
            return None
        if not self.kind.dense:
            self.work[:] = [_dense(p) for p in self.parameters]
        return [_like(g, work) for g, work in zip(gradients, self.work, strict=True)]  # type: ignore[arg-type]

    def _plain(self, gradients: list[Any]) -> bool:
        """Whether all gradients are there, contiguous and as large as the parameters (torch sees to their dtype)."""
        try:
            same = all(map(_contiguous, gradients)) and list(map(_bytes, gradients)) == self.bytes
            return same and not any(gradients[place].is_neg() for place in self.single)
        except (TypeError, AttributeError, RuntimeError):  # a missing one; a sparse one
            return False

    def write_back(self) -> None:
        """Copy the result of a step to parameters whose memory has gaps."""
        if not self.kind.dense:
            for p, work in zip(self.parameters, self.work, strict=True):
                p.detach().copy_(work)


def _settled(name: str, state: Any, work: Tensor) -> Tensor:
    """Return a state that was found as kernels take it: on the device and in the memory order of the parameter."""
    _checked(name, state, work.shape)
    if state.is_complex() != work.is_complex():  # a kernel would run past the end of the narrower one
        raise ValueError(
            f"the state {name} of a {work.dtype} parameter is {state.dtype}: "
            f"after changing between real and complex numbers, make a new optimizer"
        )
    if state.device == work.device and state.stride() == work.stride():
        return state
    return torch.empty_like(work, dtype=state.dtype, requires_grad=False).copy_(state)


def _checked(name: str, state: Any, shape: Sequence[int]) -> Tensor:
    """Return a state that was found, if it is a tensor of this shape."""
    if not isinstance(state, Tensor):
        raise TypeError(f"the state {name} of a parameter is a {type(state).__name__}, and must be a tensor")
    if tuple(state.shape) != tuple(shape):
        raise ValueError(
            f"the state {name} of a parameter has shape {tuple(state.shape)}, and now takes {tuple(shape)}: "
            f"after changing the shape of a parameter, make a new optimizer"
        )
    return state


def state_shape(shape: str, p: Tensor, blocks: int) -> tuple[int, ...]:
    """Return the shape of a state tensor that a rule declares as e.g. "m1" (rows)."""
    if shape == ELEMENT:
        return tuple(p.shape)
    side = dict(zip("mn1", (*stack_shape(p.shape, blocks)[1:], 1), strict=True))
    return (*((blocks,) if blocks > 1 else ()), *(side[letter] for letter in shape))


def kind_of(p: Tensor, rule: Rule, entry: dict[str, Any], blocks: int, kernel: bool) -> Kind:
    """Describe a parameter for the rule that steps it. entry: its state so far."""
    matrix = stack_shape(p.shape, blocks)[1:] if rule.matrix or blocks > 1 else None
    lazy = p.is_conj() or p.is_neg()  # memory holds something else than the value
    plain = p.is_contiguous() and not p.is_complex() and not lazy
    dense = not lazy and (p.is_contiguous() or (matrix is None and _without_gaps(p)))
    states = tuple(sorted((name, getattr(value, "dtype", None)) for name, value in entry.items() if name != "step"))
    return Kind(Form(str(p.device), p.dtype, matrix, blocks), int(entry.get("step", 0)), dense, plain, kernel, states)


def _without_gaps(p: Tensor) -> bool:
    """Whether the elements fill a piece of memory, in some order of dimensions (channels-last, transposed)."""
    expected = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _dense(p: Tensor) -> Tensor:
    return p.detach().resolve_conj().resolve_neg().contiguous()


def _like(gradient: Tensor, p: Tensor) -> Tensor:
    """Return the gradient in the memory order and dtype of the parameter: itself, in all usual cases."""
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    same = gradient.dtype == p.dtype and gradient.stride() == p.stride() and gradient.shape == p.shape
    if same and not gradient.is_conj() and not gradient.is_neg():
        return gradient
    return torch.empty_like(p, requires_grad=False).copy_(gradient.detach())
