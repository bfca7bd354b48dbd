"""Notes how the differentiable part of a loss is computed, outside of the model: what is called, and with what.

Each tensor that asks for gradients is tied, weakly, to the call that it comes from; a call refers to the calls before
it. What asks for no gradient is data, and is kept as it is. A call of the model is one call, whatever happens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils.weak import WeakTensorKeyDictionary

CONVERSIONS = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "float", "double", "long", "int", "half",
    "bfloat16", "to", "type", "contiguous", "view_as", "cuda", "cpu", "permute", "transpose",
}  # fmt: skip
"""Functions that data may go through on the way from the batch to the loss without becoming other data."""

CHANGING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}
"""Functions that write into their first argument, besides those whose names end in one underscore."""

BACKWARD = ("self", "gradient", "retain_graph")
"""Arguments of `Tensor.backward`, in order."""

States = tuple[Tensor, ...]
"""Of torch's generators: of the processor, then of each device."""

Heard = Callable[[Tensor, Tensor | None, bool], None]
"""What wants to know of backward passes: of the loss, the gradient that is given, and whether the graph is kept."""


@dataclass(frozen=True)
class Ref:
    """What stands for a tensor that a call returned: the call, and which of its tensors."""

    call: Call
    place: int


@dataclass(eq=False)
class Call:
    """A call that was made. function: of torch, or a module. args, kwargs: with Ref where a call's tensor was.

    number: calls so far. autocast: whether it was on. random: states of torch's generators before and after a module's
    call. changes: whether it writes into its first argument. when: steps that optimizers had made.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    number: int
    autocast: bool
    changes: bool = False
    random: tuple[States, States] | None = None
    when: int = 0

    @property
    def name(self) -> str:
        """Of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)


class Trace(TorchFunctionMode):
    """Notes calls from start to stop. heard: called before a backward pass, see `Heard`. errors: what went wrong."""

    def __init__(self, heard: Heard, errors: list[str]) -> None:
        super().__init__()
        self.steps = 0
        self._heard, self._errors = heard, errors
        self._calls = WeakTensorKeyDictionary()
        self._sources = WeakTensorKeyDictionary()
        self._unscaled = WeakTensorKeyDictionary()
        self._kept = WeakTensorKeyDictionary()
        self._number = 0
        self._on = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is Tensor.backward:
            with self._harmless("backward"):
                named = dict(zip(BACKWARD, args, strict=False)) | kwargs
                self._heard(args[0], named.get("gradient"), bool(named.get("retain_graph")))
            return func(*args, **kwargs)
        changes = name in CHANGING or (name.endswith("_") and not name.endswith("__"))
        given = args
        if changes and args and len(self._kept):
            with self._harmless(name):
                self._save(args[0])
        if changes and torch.is_grad_enabled():
            with self._harmless(name):
                given = self._before_change(args)
        output = func(*args, **kwargs)
        with self._harmless(name):
            if name in CONVERSIONS:
                self._note_source(output, func, args, kwargs)
            if torch.is_grad_enabled():
                self._note(args[0] if changes and args else output, Call(func, given, kwargs, 0, _autocast(), changes))
        return output

    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: tuple[Any, Any]) -> None:
        """Hear that a module was called. made: what it returned, and the states of the generators before."""
        output, before = made
        if torch.is_grad_enabled():
            with self._harmless("module"):
                random = before, states()
                self._note(output, Call(module, args, kwargs, 0, _autocast(), random=random, when=self.steps))

    def scaled(self, loss: Any, output: Any) -> None:
        """Hear that a loss was multiplied by the factor of a GradScaler: it is still that loss."""
        with self._harmless("scale"):
            if isinstance(loss, Tensor) and isinstance(output, Tensor) and loss in self._calls:
                self._calls[output], self._unscaled[output] = self._calls[loss], loss.detach()

    def origin(self, tensor: Tensor) -> Ref | None:
        """Return the call that a tensor comes from."""
        return self._calls.get(tensor)

    def told(self, loss: Tensor) -> Tensor:
        """Return the value of a loss, without the factor of a GradScaler."""
        unscaled = self._unscaled.get(loss)
        return loss.detach() if unscaled is None else unscaled

    def source(self, tensor: Tensor) -> Call | None:
        """Return the conversion that a tensor without gradient comes from."""
        return self._sources.get(tensor)

    def keep(self, tensor: Tensor, replace: Callable[[Tensor, Tensor], None]) -> None:
        """Hear that data are remembered. replace: called with them, and with a copy, before they are written over."""
        self._kept[tensor] = [*(self._kept.get(tensor) or ()), replace]

    def start(self) -> None:
        """Begin to listen."""
        self._on = True
        _push_mode(self)

    def stop(self) -> None:
        """Listen no more."""
        self._on = False
        modes = [_pop_mode() for _ in _get_current_function_mode_stack()]
        for mode in reversed(modes):
            if mode is not self:
                _push_mode(mode)

    def forget(self, end: Call) -> None:
        """Let calls go that lead to one whose graph is used up."""
        gone = {id(each) for each in leading_to(end)}
        for tensor, ref in list(self._calls.items()):
            if id(ref.call) in gone:
                del self._calls[tensor]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Hear nothing inside: not even that there is someone who hears, which a compiler would ask."""
        mine = _get_current_function_mode() is self
        if mine:
            _pop_mode()
        try:
            yield
        finally:
            if mine and self._on:
                _push_mode(self)

    def _note(self, output: Any, call: Call) -> None:
        made = [each for each in flat(output) if each.requires_grad and not each.is_leaf]
        if not made:
            return
        places = {id(each): place for place, each in enumerate(flat(output))}
        self._number += 1
        call.number = self._number
        call.args, call.kwargs = walked(call.args, self._refer), walked(call.kwargs, self._refer)
        for each in made:
            self._calls[each] = Ref(call, places[id(each)])

    def _note_source(self, output: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if isinstance(output, Tensor) and not output.requires_grad and args and output is not args[0]:
            others = [each for each in flat([*args[1:], kwargs]) if isinstance(each, Tensor)]
            if isinstance(args[0], Tensor) and not others:
                self._sources[output] = Call(func, args, kwargs, 0, False)

    def _before_change(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with data that gradients are about to be written into as they are before."""
        first = args[0] if args else None
        if not isinstance(first, Tensor) or not any(each.requires_grad for each in flat(list(args))):
            return args
        known = self._calls.get(first)
        if known is not None:
            return (known, *args[1:])
        return (first, *args[1:]) if first.requires_grad else (first.clone(), *args[1:])

    def _save(self, tensor: Any) -> None:
        found: Any = self._kept.pop(tensor, []) if isinstance(tensor, Tensor) else []
        copied = tensor.detach().clone() if found else tensor
        for replace in found:
            replace(tensor, copied)

    def _refer(self, value: Any) -> Any:
        found = self._calls.get(value) if isinstance(value, Tensor) else None
        return value if found is None else found

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._errors.append(f"{what} of the script: {type(error).__name__}: {error}")


def states() -> States:
    """Return the states of torch's generators."""
    return (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ()))


def restore(random: States) -> None:
    """Put torch's generators back."""
    torch.set_rng_state(random[0])
    if len(random) > 1:
        torch.cuda.set_rng_state_all(list(random[1:]))


def alike(one: States, other: States) -> bool:
    """Return whether generators are in the same states."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def leading_to(end: Call) -> list[Call]:
    """Return the calls that lead to one, and it, in the order they were made."""
    found: dict[int, Call] = {}
    waiting = [end]
    while waiting:
        call = waiting.pop()
        if id(call) not in found:
            found[id(call)] = call
            walked([call.args, call.kwargs], lambda each: waiting.append(each.call) if isinstance(each, Ref) else None)
    return sorted(found.values(), key=lambda each: each.number)


def flat(value: Any) -> list[Tensor]:
    """Return the tensors in what a function is given or returns, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [each for one in value.values() for each in flat(one)]
    if isinstance(value, list | tuple):
        return [each for one in value for each in flat(one)]
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module | type):
        return [each for one in vars(value).values() if isinstance(one, Tensor | list | tuple) for each in flat(one)]
    return []


def walked(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return lists, tuples and dicts with everything in them changed; what else there is, changed."""
    if isinstance(value, dict):
        return {name: walked(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        each = [walked(one, change) for one in value]
        return type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    return change(value)


def _autocast() -> bool:
    return torch.is_autocast_enabled("cpu") or (torch.cuda.is_available() and torch.is_autocast_enabled("cuda"))
