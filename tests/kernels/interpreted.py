"""A second process in which Triton interprets its kernels with NumPy, and what the tests have run there.

Triton decides when it is imported whether it interprets, and the tests also need its compiler: hence two processes.
"""

import io
import multiprocessing
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import inf, nan
from typing import Any
from unittest import mock

import numpy as np
import torch

import steepest.kernels.batch
import steepest.optim.cut
import steepest.optim.optimizer
from steepest.formula import dot, everywhere, exp, largest, log, norm, square_total, total, where
from steepest.kernels import gpu, triton_text
from steepest.kernels.plan import Program
from steepest.optim.graph import Edits, trace
from steepest.rule import Rule, rule
from steepest.rules import RULES

SIZES = ((0,), (1,), (7,), (16,), (17,), (33,), (1000,), (triton_text.ROW + 100,))
MATRICES = ((4, 5), (4, 5), (33, 40), (1, 8), (8, 1))
SPECIAL = (0.0, -0.0, nan, inf, -inf, 1e-45, -1e-45, 1e-39, 3e38, -3e38, 1.0, -1.0, 1e-20, 0.5)

Tensors = dict[str, torch.Tensor]


@rule
def logical(p, g, m, *, lr=0.5):
    """Every operation that none of the rules has."""
    m = where((g <= m) & ~(p == 0) | (g != m) & (p < g), p, -m) + where(g > 0.5, 1.0, 0.0) * (g > p)
    return p - lr * abs(m), m


@rule
def summing(p, g, m, *, lr=0.5):
    """Every sum, a scalar that is a truth value, and a value spread over the elements."""
    scale = total(g) + dot(p, g) + norm(p) + largest(m - g)
    return where(scale > 1, p - lr * g, g), m * 0 + scale


@rule
def transcendental(p, g, m, *, lr=0.5):
    """Functions that no machine rounds correctly."""
    return exp(p) - lr * g, log(abs(g))


@rule
def guarded(p, g, m, *, lr=0.5):
    """A step that is not taken where any gradient is not finite, which the host never learns."""
    finite = everywhere(square_total(g)) < inf
    return where(finite, p - lr * g, p), where(finite, g, m)


@rule
def largest_only(p, g, *, lr=0.5):
    """The largest gradient, everywhere."""
    return p * 0 + largest(g)


SUMS = ("total", "square_total", "dot", "largest", "row_mean", "column_mean", "matmul")


def find(name: str) -> Rule:
    """Return a rule of the package or of this module."""
    return RULES.get(name) or globals()[name]


def program(name: str, **edits: Any) -> Program:
    """Return what a rule does in its second step."""
    rule = find(name)
    return trace(rule, Edits(**edits), (16, 16) if rule.matrix else None, 2, dict(rule.options)).program


def has_sums(name: str) -> bool:
    """Whether numbers depend on the order in which something is added up."""
    return any(node[0] in SUMS for node in program(name).nodes)


def train(
    name: str,
    *,
    shapes: tuple[tuple[int, ...], ...] = (),
    dtype: torch.dtype = torch.float32,
    steps: int = 3,
    special: bool = False,
    shifted: bool = False,
    device: str = "cpu",
    measure: bool = False,
    breach: tuple[str, str] | None = None,
    **options: Any,
) -> Tensors:
    """Return parameters and states after some steps. Runs in both processes: in the second one by Triton's kernels.

    special: parameters and gradients are pairs of special values. shifted: addresses are no multiples of 16 bytes.
    measure: what the optimizer measured is in the result. breach: a pattern and what
    stands for it in the printed kernels.
    """
    rule = find(name)
    first, gradients = start(special, shapes or (MATRICES if rule.matrix else SIZES), steps)
    memory = [_surrounded(p.to(device, dtype), shifted) for p in first]
    parameters = [torch.nn.Parameter(_inside(around, p)) for around, p in zip(memory, first, strict=True)]
    optimizer = steepest.optim.optimizer.Optimizer(parameters, rule=rule, **options)
    optimizer.measure = measure
    changed = partial(re.sub, *(breach or ("", "")))
    with mock.patch.object(gpu, "source", lambda *arguments: changed(triton_text.source(*arguments))):
        for step in gradients:
            for p, g in zip(parameters, step, strict=True):
                p.grad = _inside(_surrounded(g.to(device, dtype), shifted), g)
            optimizer.step()
    result = {f"p[{k}]": p.detach() for k, p in enumerate(parameters)}
    for k, p in enumerate(parameters):
        result |= {f"{state}[{k}]": value for state, value in optimizer.state[p].items()}
        around = memory[k].clone()
        _inside(around, p).zero_()
        result[f"around p[{k}]"] = around
    if measure:
        stats = optimizer.stats
        measured = [stats.gradient_norm, stats.update_norm, stats.unchanged, *stats.ratios.values()]
        result["stats"] = torch.tensor(measured, dtype=torch.float64)
    return {key: value.cpu() for key, value in result.items()}


def start(special: bool, shapes: tuple[tuple[int, ...], ...] = (), steps: int = 1) -> tuple[list, list]:
    """Return parameters, and their gradients at each step.

    special: they are one square matrix of special values, and gradients that meet each of them with each.
    """
    if special:
        values, side = torch.tensor(SPECIAL), len(SPECIAL)
        p, g = values.repeat(side).view(side, side), values.repeat_interleave(side)
        return [p], [[g.roll(k).view(side, side)] for k in range(steps)]
    draw = torch.Generator().manual_seed(0)
    first, *gradients = [
        [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes] for _ in range(steps + 1)
    ]
    return first, gradients


MARGIN = 64  # elements before and behind a tensor that nobody may write


def _surrounded(x: torch.Tensor, shifted: bool) -> torch.Tensor:
    """Return memory with a copy of the tensor in it, which begins one element late if shifted."""
    around = torch.full((x.numel() + 2 * MARGIN + shifted,), 7, dtype=x.dtype, device=x.device)
    _inside(around, x).copy_(x)
    return around


def _inside(around: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    first = len(around) - MARGIN - like.numel()
    return around[first : first + like.numel()].view(like.shape)


def same_bits(got: Tensors, expected: Tensors) -> None:
    """Assert that all numbers agree to the bit; of NaN there is only one."""
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        assert torch.equal(_bits(got[name]), _bits(x)), f"{name}: {got[name]} and not {x}"


def _bits(x: torch.Tensor) -> torch.Tensor:
    x = torch.view_as_real(x) if x.is_complex() else x
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    return x.where(~x.isnan(), torch.full_like(x, torch.nan)).view(whole)


def close(got: Tensors, expected: Tensors, within: float = 1e-6) -> None:
    """Assert that all numbers agree but for the order of sums."""
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(got[name], x, rtol=within, atol=within, equal_nan=True)


def uploads(name: str, rates: tuple[float, ...], fresh: bool) -> list[int]:
    """Return how many tables travelled to the device at each step. fresh: each step has gradients at new addresses."""
    p = torch.nn.Parameter(torch.ones(5))
    optimizer = steepest.optim.optimizer.Optimizer([p], rule=find(name))
    counts, kept = [], []
    for rate in rates:
        if fresh or p.grad is None:
            p.grad = torch.ones(5)
            kept.append(p.grad)  # alive, so that the next one is elsewhere
        optimizer.param_groups[0]["lr"] = rate
        with mock.patch.object(gpu, "upload", wraps=gpu.upload) as upload:
            optimizer.step()
        counts.append(upload.call_count)
    return counts


def waits(name: str, breach: bool = False, **options: Any) -> list[str]:
    """Return by which methods the stages of a step read a tensor back to the host, which on a GPU is to wait for it.

    breach: sums over all tensors are Python numbers, as on the CPU.
    """
    found: list[str] = []
    readers = ("item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__array__", "cpu")
    run = steepest.kernels.batch.together

    def watched(*arguments: Any) -> Any:
        with (
            mock.patch.multiple(torch.Tensor, **{n: _noting(found, torch.Tensor, n) for n in readers}),
            mock.patch.object(torch, "as_tensor", _noting(found, torch, "as_tensor")),  # of a number: a copy to the GPU
        ):
            return run(*arguments)

    total = steepest.kernels.batch.Run.total if breach else gpu.GpuRun.total
    with (
        mock.patch.object(steepest.optim.optimizer, "together", watched),
        mock.patch.object(gpu.GpuRun, "total", total),
    ):
        train(name, steps=2, **options)
    return sorted(set(found))


def _noting(found: list[str], owner: Any, name: str) -> Callable[..., Any]:
    original = getattr(owner, name)

    def read(*arguments: Any, **keywords: Any) -> Any:
        # the interpreter reads what it computes with; so does `_converted` for it
        if not sys._getframe(1).f_globals["__name__"].startswith(("triton.", __name__, gpu.__name__)):
            found.append(name)
        return original(*arguments, **keywords)

    return read


class Interpreter:
    """The second process. Calls are of functions of this module."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_interpret)

    def __call__(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        answer = self.pool.submit(_answer, function, arguments, keywords).result()
        return torch.load(io.BytesIO(answer), weights_only=True)

    def close(self) -> None:
        self.pool.shutdown()


def _interpret() -> None:
    """Set up the second process: Triton interprets, and the optimizer runs its kernels on the CPU's tensors."""
    if "triton" in sys.modules:
        raise RuntimeError("something imported triton before it was told to interpret")
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.runtime import interpreter

    interpreter._convert_float = _converted(interpreter._convert_float)
    steepest.optim.optimizer.Run = gpu.GpuRun
    steepest.optim.cut._joins = lambda kind, program: False  # batches as they are on a GPU
    np.seterr(all="ignore")


def _converted(original: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return the interpreter's conversion with bfloat16 rounded as hardware does; Triton 3.9 truncates it."""
    import triton.language as tl

    def convert(x: np.ndarray, source: Any, target: Any, rounding: Any) -> np.ndarray:
        flat = np.ascontiguousarray(x).reshape(-1)
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(flat).bfloat16().view(torch.uint16).numpy().reshape(x.shape)
        if (source, target) == (tl.bfloat16, tl.float32):
            wide = torch.from_numpy(flat.view(np.uint16)).view(torch.bfloat16).float()
            return wide.numpy().view(np.uint32).reshape(x.shape)
        return original(x, source, target, rounding)

    return convert


def _answer(function: Callable[..., Any], arguments: tuple, keywords: dict[str, Any]) -> bytes:
    answer = io.BytesIO()
    torch.save(function(*arguments, **keywords), answer)
    return answer.getvalue()
