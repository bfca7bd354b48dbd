"""Listens to a loop through torch's hooks: batches, backward passes, steps. It changes nothing and copies nothing.

There are no hooks for the beginning of a backward pass and for clipping: `torch.autograd.backward`, and the function
that `clip_grad_norm_` leaves the clipping to, are wrapped while a tap is open.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from steepest.doctor.drawn import Drawn
from steepest.doctor.grammar import Grammar, is_there
from steepest.doctor.history import Backward, Pass, Update, owner

SETTINGS = ("lr", "momentum", "betas", "eps", "weight_decay", "dampening", "nesterov", "maximize")
"""What is remembered of an optimizer's groups."""

LONGEST = 512
"""Backward passes that are remembered where no step follows."""

GATHERED = 64
"""Batches given out since the last step, of any of which the model may be called next."""

_taps: "weakref.WeakSet[Tap]" = weakref.WeakSet()
_backward = torch.autograd.backward
_clip = getattr(clip_grad, "_clip_grads_with_norm_", None)


class Tap:
    """What is going on between two steps of the optimizer, and what happened where nobody was to ask.

    before_step, after_step: called with the update that is about to be made, and after it. The other optimizers that
    step meanwhile are counted, and so are passes of the model without gradients: in training mode and not.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, sampled: list[nn.Parameter]) -> None:
        self.busy = False
        self.before_step: Callable[[Update], None] = lambda update: None
        self.after_step: Callable[[Update], None] = lambda update: None
        self.current: Pass | None = None
        self.batches = 0
        self.foreign: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self.without_gradient = {True: 0, False: 0}
        self.looked_at: Any = None
        self.stepped = 0
        self.unstepped = 0
        self._model, self._optimizer = model, weakref.ref(optimizer)
        self._sampled = sampled
        self.grammar = Grammar(model, optimizer)
        self._drawn = Drawn()
        self._given: list[Pass] = []
        self._owner: Pass | None = None
        self._window: list[Backward] = []
        self._clips: list[tuple[float, Tensor]] = []
        self._touched = False
        self._update: Update | None = None
        self._handles = _hooks(self, model, sampled)
        _taps.add(self)
        torch.autograd.backward = _told_of
        if _clip is not None:
            clip_grad._clip_grads_with_norm_ = _told_of_clipping
        weakref.finalize(self, _leave, self._handles)

    @property
    def open(self) -> bool:
        """Whether there are gradients that have not been used."""
        return bool(self._window)

    @property
    def waiting(self) -> list[Backward]:
        """Backward passes since the last step."""
        return self._window

    def batch(self, *parts: Any) -> None:
        """Take in a batch that is about to be given out, or the parts of it that the loss takes one after another."""
        random = self._drawn.read()
        made = [Pass(self.batches, each, random) for each in parts]
        self.current, self._owner = made[-1], None
        self._given = [*self._given[-GATHERED:], *made]
        self.batches += 1

    def close(self) -> None:
        """Take all hooks away."""
        _taps.discard(self)
        _leave(self._handles)

    def forget_backward(self) -> None:
        """Hear that no step comes of the backward passes since the last one."""
        self._window, self.unstepped = [], 0

    def forget_given(self) -> None:
        """Hear that the model is called with the newest batch only, and none that was given out before."""
        self._given = self._given[-1:]

    def clip(self, most: float, length: Tensor) -> None:
        """Hear that gradients are clipped."""
        self._clips = [*self._clips[-9:], (most, length)]

    def forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Hear that the model is called."""
        self.grammar.forward(module, inputs, self.stepped)
        if torch.is_grad_enabled():
            self._owner = owner(self._given, inputs)
            of = self._owner or self.current
            if of is not None and torch.is_autocast_enabled(_kind(self._sampled)):
                of.autocast = torch.get_autocast_dtype(_kind(self._sampled))
        else:
            self.without_gradient[module.training] += 1
            self.looked_at = inputs

    def backward(self, loss: Tensor, retained: bool, run: Callable[[], None]) -> None:
        """Go with a backward pass. retained: whether its graph is kept."""
        stale = any(is_there(each.grad) for each in self._sampled[-2:])
        self._touched = False
        self.grammar.retained += retained
        self.grammar.backward_begins(loss, not self._window, stale, self.stepped)
        run()
        self.grammar.backward_ends(self._touched)
        if self._touched and self.current is not None:
            of = self._owner or self.current
            self._window.append(Backward(of, loss.detach(), stale, self._model.training))
            self.unstepped += 1
            del self._window[:-LONGEST]

    def touch(self) -> None:
        """Hear that a gradient has arrived."""
        self._touched = True

    def step_begins(self, optimizer: Optimizer, args: tuple[Any, ...]) -> None:
        """Hear that an optimizer is about to step."""
        if optimizer is not self._optimizer():
            self.foreign.add(optimizer)
            return
        settings = [{name: group[name] for name in SETTINGS if name in group} for group in optimizer.param_groups]
        closure = any(callable(each) for each in args)
        empty = not any(is_there(each.grad) for each in self._sampled)
        self.grammar.step_begins(self.stepped)
        self._update = Update(self.stepped, self._window, settings, closure, empty, self._clips, self.grammar.left)
        self.before_step(self._update)

    def step_ends(self, optimizer: Optimizer) -> None:
        """Hear that it has stepped."""
        update, self._update = self._update, None
        if update is None or optimizer is not self._optimizer():
            return
        self._window, self._clips, self.unstepped = [], [], 0
        self._given = [of for of in self._given if self.current is not None and of.number == self.current.number]
        self.stepped += 1
        self.grammar.step_ends()
        self.after_step(update)


def _told_of(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """Stand in for `torch.autograd.backward`."""

    def run() -> None:
        _backward(tensors, *args, **kwargs)

    retained = bool(kwargs.get("retain_graph") or (args[1] if len(args) > 1 else False))
    loss = tensors if isinstance(tensors, Tensor) else next(iter(tensors), None)
    for tap in list(_taps):
        if not tap.busy and isinstance(loss, Tensor):
            run = _with(tap, loss, retained, run)
    run()


def _told_of_clipping(parameters: Any, most: float, length: Tensor, *args: Any, **kwargs: Any) -> None:
    """Stand in for the second half of `clip_grad_norm_`."""
    for tap in list(_taps):
        if not tap.busy:
            tap.clip(float(most), length.detach())
    if _clip is not None:
        _clip(parameters, most, length, *args, **kwargs)


def _with(tap: Tap, loss: Tensor, retained: bool, run: Callable[[], None]) -> Callable[[], None]:
    return lambda: tap.backward(loss, retained, run)


def _hooks(tap: Tap, model: nn.Module, sampled: list[nn.Parameter]) -> list[Any]:
    """Register hooks that hold the tap by a weak reference: a copy of the model is not to copy it."""
    found = weakref.ref(tap)

    def idle() -> Tap | None:
        tap = found()
        return None if tap is None or tap.busy else tap

    def forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if (tap := idle()) is not None:
            tap.forward(module, inputs)

    def touch(parameter: Tensor) -> None:
        if (tap := idle()) is not None:
            tap.touch()

    def begins(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (tap := idle()) is not None:
            tap.step_begins(optimizer, (*args[1:], *kwargs.values()))

    def ends(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (tap := idle()) is not None:
            tap.step_ends(optimizer)

    return [
        model.register_forward_pre_hook(forward),
        *(each.register_post_accumulate_grad_hook(touch) for each in sampled),
        register_optimizer_step_pre_hook(begins),
        register_optimizer_step_post_hook(ends),
    ]


def _leave(handles: list[Any]) -> None:
    """Take hooks away; the last tap takes what stands in for torch's own functions with it."""
    while handles:
        handles.pop().remove()
    if not any(True for _ in _taps):  # one that is just being collected still counts in its length
        torch.autograd.backward = _backward
        if _clip is not None:
            clip_grad._clip_grads_with_norm_ = _clip


def _kind(sampled: list[nn.Parameter]) -> str:
    return sampled[0].device.type if sampled else "cpu"
