"""The printed Triton kernels give the numbers of the CPU kernels and of the formula, and compile to exact instructions."""

import re

import interpreted
import numpy as np
import pytest
import torch
from interpreted import MATRICES, close, same_bits, train

from steepest.kernels import triton_text
from steepest.kernels.batch import real
from steepest.kernels.gpu import GpuLauncher
from steepest.kernels.plan import Program
from steepest.kernels.ptx import breaches, compile_for
from steepest.optim.graph import Edits, trace
from steepest.rules import RULES

REDUCTIONS = ("total", "square_total", "dot", "largest", "row_mean", "column_mean", "matmul")


@pytest.fixture(scope="module")
def interpreter():
    process = interpreted.Interpreter()
    yield process
    process.close()


def program(name, t=2, dtype="float32", **edits):
    rule = interpreted.find(name)
    low = dtype in ("bfloat16", "float16")
    return trace(rule, Edits(low=low, **edits), (16, 16) if rule.matrix else None, t, dict(rule.options)).program


def has_sums(program):
    return any(node[0] in REDUCTIONS for node in program.nodes)


def printed(program: Program, dtype="float32", state="float32"):
    """The text of each kernel of a program, with states of one dtype."""
    dtypes = dict.fromkeys(program.states, state) | {"p": dtype, "g": dtype}
    texts = []
    for stage in program.stages:
        if stage.stores or stage.kept or stage.reductions:
            columns = GpuLauncher.columns_of(program)
            texts.append(triton_text.source(program, stage, columns, {name: dtypes.get(name, "float32") for name in columns}))
    return texts


# Values: interpreted, against the CPU kernel and the formula


@pytest.mark.parametrize("name", RULES)
def test_kernels_are_the_cpu_kernels(interpreter, name):
    got, expected = interpreter(train, name), train(name)
    (close if has_sums(program(name)) else same_bits)(got, expected)


@pytest.mark.parametrize("name", [name for name in RULES if not has_sums(program(name)) and not RULES[name].matrix])
def test_kernels_are_the_formula_in_numpy(interpreter, name):
    shapes = ((33,), (1000,))
    got = interpreter(train, name, shapes=shapes)
    start, gradients = interpreted._normal(shapes, 3)
    for k, p in enumerate(start):
        *_, expected = RULES[name].walk(p.numpy().astype(np.float32), [step[k].numpy() for step in gradients])
        same_bits({"p": got[f"p[{k}]"]}, {"p": torch.from_numpy(expected)})


@pytest.mark.parametrize("name", [name for name in RULES if not RULES[name].matrix])
def test_special_values_are_kept(interpreter, name):
    same_bits(interpreter(train, name, special=True), train(name, special=True))


@pytest.mark.parametrize("name", ["logical", "summing", "guarded", "largest_only"])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operations_that_no_rule_has(interpreter, name, special, dtype):
    got, expected = (run(name, special=special, dtype=dtype) for run in (lambda *a, **k: interpreter(train, *a, **k), train))
    (close if name == "summing" else same_bits)(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_and_log_are_close(interpreter, dtype):
    got, expected = interpreter(train, "transcendental", dtype=dtype), train("transcendental", dtype=dtype)
    close(got, expected, within=4 * torch.finfo(dtype).eps)
