"""How exact a step is: the kernel against the formula in NumPy, and the formula against torch."""

import inspect
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from steepest import optim
from steepest.rule import Rule, class_name
from steepest.rules import RULES

SIZES = (1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 1000, 16384, 16385, 40001)
STEPS = 5


def report() -> None:
    """Print one line for each rule: greatest difference in float32 from its formula, and in float64 from torch."""
    table = Table(title=f"{STEPS} steps, sizes {SIZES[0]} to {SIZES[-1]}, 1 and 2 threads", title_justify="left")
    for column in ("rule", "kernel v formula, float32", "50 steps v torch, float64"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for name, rule in RULES.items():
        exact = "has matrix functions" if rule.matrix else f"{ulps(rule)} ulp"
        table.add_row(name, exact, against_torch(rule))
    Console(highlight=False, soft_wrap=True).print(table)


def ulps(rule: Rule) -> int:
    """Return the greatest distance, in units of the last place, between a parameter's kernel and formula in float32."""
    before, worst = torch.get_num_threads(), 0
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            worst = max(worst, *(_distance(rule, size) for size in SIZES))
    finally:
        torch.set_num_threads(before)
    return worst


def _distance(rule: Rule, size: int) -> int:
    rng = np.random.default_rng(size)
    start = rng.normal(size=size).astype(np.float32)
    gradients = rng.normal(size=(STEPS, size)).astype(np.float32)
    p = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = optim.CLASSES[class_name(rule.name)]([p])
    for gradient in gradients:
        p.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = list(rule.walk(start, list(gradients)))[-1]
    return int(np.abs(_ordered(p.detach().numpy()) - _ordered(expected)).max())


def _ordered(x: np.ndarray) -> np.ndarray:
    """Number the floats in their order, so that neighbours differ by one."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def against_torch(rule: Rule) -> str:
    """Return the greatest difference from torch.optim after 50 steps in float64, where torch has the rule.

    (torch's Muon multiplies in bfloat16 whatever the dtype.)
    """
    theirs = getattr(torch.optim, rule.same_as.removeprefix("torch.optim."), None)
    if not rule.same_as.startswith("torch.optim.") or theirs is None:
        return "-"
    return f"{_gap(optim.CLASSES[class_name(rule.name)], theirs):.1e}"


def _gap(ours: Any, theirs: Any) -> float:
    torch.set_default_dtype(torch.float64)  # torch's NAdam and ASGD keep their scalars in the default dtype
    try:
        return _walk(ours, theirs)
    finally:
        torch.set_default_dtype(torch.float32)


def _walk(ours: Any, theirs: Any) -> float:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(17, 5, generator=generator)
    made = [nn.Parameter(start.clone()), nn.Parameter(start.clone())]
    options = {"weight_decay": 0.1} if "weight_decay" in inspect.signature(theirs).parameters else {}
    optimizers = [ours([made[0]], **options), theirs([made[1]], **options)]
    for _ in range(50):
        gradient = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        for p, optimizer in zip(made, optimizers, strict=True):
            p.grad = gradient.clone()
            optimizer.step()
    return float((made[0] - made[1]).detach().abs().max())
