"""Whether a hand-written function has the derivative that it says, by differences in double precision."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.grammar import nodes
from steepest.doctor.lab import Lab

TRIES = 3
WIDTHS = (1e-5, 1e-6)
"""Half widths of differences, as parts of the size of what is given."""

AGREE, APART = 0.01, 0.05
"""Differences of two widths that are to mean something differ by less; a wrong derivative by more."""

ROWS = 64


def hand_written(lab: Lab, seen: Anatomy) -> dict[type, tuple[tuple[Any, ...], Tensor]]:
    """Return the functions in a loss that have a derivative of their own: all that each was given, and what it gave.

    The nodes of a graph know their function; what it is called with is noted while the loss is computed once more.
    """
    found: dict[type, tuple[tuple[Any, ...], Tensor]] = {}
    own = [type(node) for node in nodes(seen.value) if isinstance(node, BackwardCFunction)]
    kinds: set[Any] = {getattr(each, "_forward_cls") for each in own}  # noqa: B009
    kinds = {each for each in kinds if not each.__module__.startswith("torch.")}
    if kinds:
        with ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(_noting(kind, found))
            lab.ask(lab.twin(), seen.of)
    return found


@contextmanager
def _noting(kind: Any, found: dict[type, tuple[tuple[Any, ...], Tensor]]) -> Iterator[None]:
    own, inherited = kind.forward, "forward" not in vars(kind)
    before = vars(kind).get("forward")

    def forward(*args: Any) -> Any:
        output = own(*args)
        if isinstance(output, Tensor):
            found.setdefault(kind, (args if _separate(kind) else args[1:], output))
        return output

    kind.forward = staticmethod(forward)
    try:
        yield
    finally:
        if inherited:
            del kind.forward
        else:
            kind.forward = before


def _separate(kind: Any) -> bool:
    """Return whether what is kept for backward() is kept by a method of its own, so that forward() has no context."""
    return kind.setup_context is not Function.setup_context


def wrong(kind: Any, given: tuple[Any, ...], gave: Tensor) -> float | None:
    """Return how far off a derivative is, as a part; None where it is right, or meant to be another.

    Meant: what gives what it was given, and so only changes gradients; what is flat wherever it is not broken.
    """
    cut = [
        each[:ROWS] if isinstance(each, Tensor) and each.shape == gave.shape and each.ndim else each for each in given
    ]
    args = [each.detach() if isinstance(each, Tensor) else each for each in cut]
    args = [each.double().requires_grad_() if _is_float(each) else each for each in args]
    inputs = [each for each in args if _is_float(each)]
    if not inputs:
        return None
    output = kind.apply(*args)
    told = gave.detach().double()[: len(output)] if gave.ndim else gave.detach().double()
    if output.shape != told.shape or not torch.allclose(output.detach(), told, rtol=1e-3, atol=1e-5):
        return None
    if any(each.shape == output.shape and torch.allclose(each, output) for each in inputs):
        return None
    misses = [_miss(kind, args, output) for _ in range(TRIES)]
    known = [each for each in misses if each is not None]
    return min(known) if len(known) == TRIES and min(known) > APART else None


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _miss(kind: Any, args: list[Any], output: Tensor) -> float | None:
    """Return by what part a directional derivative misses the difference, None where the difference says nothing."""
    inputs = [each for each in args if _is_float(each)]
    direction = [torch.randn_like(each) for each in inputs]
    weights = torch.randn_like(output)
    gradients = torch.autograd.grad(output, inputs, weights, retain_graph=True, allow_unused=True)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)
    told = []
    for width in WIDTHS:
        size = width * max(float(each.detach().abs().max()) for each in inputs)
        ends = []
        for sign in (1, -1):
            moved = iter([x.detach() + sign * size * d for x, d in zip(inputs, direction, strict=True)])
            ends.append(kind.apply(*[next(moved) if _is_float(each) else each for each in args]))
        told.append(float((weights * (ends[0] - ends[1])).sum()) / (2 * size))
    scale = max(abs(told[0]), abs(told[1]), abs(analytic))
    if (
        scale == 0
        or abs(told[0] - told[1]) > AGREE * max(abs(told[0]), abs(told[1]))
        or max(map(abs, told)) < 1e-9 * scale
    ):
        return None
    return abs(analytic - told[1]) / scale
