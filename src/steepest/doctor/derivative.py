"""Whether a hand-written function has the derivative that it says, by differences in double precision."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.grammar import nodes
from steepest.doctor.history import tensors

TRIES = 3
WIDTHS = (1e-5, 1e-6)
"""Half widths of differences, as parts of the size of what is given."""

AGREE, APART = 0.01, 0.05
"""Differences of two widths that are to mean something differ by less; a wrong derivative by more."""

ROWS = 64


def hand_written(seen: Anatomy) -> dict[type, tuple[list[Tensor], Tensor]]:
    """Return the functions in a loss that have a derivative of their own: what each was given and gave at first."""
    known: dict[Any, Tensor] = {}
    for call in seen.seen.calls:
        for each in (*call.inputs, *tensors(call.output)):
            if each.grad_fn is not None:
                known.setdefault(each.grad_fn, each)
    found: dict[type, tuple[list[Tensor], Tensor]] = {}
    for node in nodes(seen.value):
        if not isinstance(node, BackwardCFunction) or node not in known:
            continue
        before = [
            known.get(each) if not hasattr(each, "variable") else each.variable for each, _ in node.next_functions
        ]
        kind: Any = getattr(type(node), "_forward_cls")  # noqa: B009
        if all(isinstance(each, Tensor) for each in before) and kind not in found:
            found[kind] = ([each for each in before if each is not None], known[node])
    return found


def wrong(kind: Any, given: list[Tensor], gave: Tensor) -> float | None:
    """Return how far off a derivative is, as a part; None where it is right, or meant to be another.

    Meant: what gives what it was given, and so only changes gradients; what is flat wherever it is not broken.
    """
    inputs = [each.detach().double()[:ROWS] if each.shape == gave.shape else each.detach().double() for each in given]
    inputs = [each.requires_grad_(each.is_floating_point()) for each in inputs]
    output = kind.apply(*inputs)
    told = gave.detach().double()[: len(output)] if gave.ndim else gave.detach().double()
    if output.shape != told.shape or not torch.allclose(output.detach(), told, rtol=1e-3, atol=1e-5):
        return None
    if any(each.shape == output.shape and torch.allclose(each, output) for each in inputs):
        return None
    misses = [_miss(kind, inputs, output) for _ in range(TRIES)]
    known = [each for each in misses if each is not None]
    return min(known) if len(known) == TRIES and min(known) > APART else None


def _miss(kind: Any, inputs: list[Tensor], output: Tensor) -> float | None:
    """Return by what part a directional derivative misses the difference, None where the difference says nothing."""
    direction = [torch.randn_like(each) for each in inputs]
    weights = torch.randn_like(output)
    gradients = torch.autograd.grad(output, inputs, weights, retain_graph=True, allow_unused=True)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)
    told = []
    for width in WIDTHS:
        size = width * max(float(each.abs().max()) for each in inputs)
        ends = [
            kind.apply(*[x.detach() + sign * size * d for x, d in zip(inputs, direction, strict=True)])
            for sign in (1, -1)
        ]
        told.append(float((weights * (ends[0] - ends[1])).sum()) / (2 * size))
    scale = max(abs(told[0]), abs(told[1]), abs(analytic))
    if (
        scale == 0
        or abs(told[0] - told[1]) > AGREE * max(abs(told[0]), abs(told[1]))
        or max(map(abs, told)) < 1e-9 * scale
    ):
        return None
    return abs(analytic - told[1]) / scale
