"""What a step costs: ours against torch's or another library's, in turns in one process, the least of all rounds."""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from steepest import optim
from steepest.rule import class_name
from steepest.rules import RULES

OPPONENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "adabelief": ("pytorch_optimizer.AdaBelief", {}),
    "adopt": ("pytorch_optimizer.ADOPT", {}),
    "adan": ("pytorch_optimizer.Adan", {}),
    "ademamix": ("pytorch_optimizer.AdEMAMix", {}),
    "amsgrad": ("torch.optim.Adam", {"amsgrad": True}),
    "lamb": ("pytorch_optimizer.Lamb", {}),
    "laprop": ("pytorch_optimizer.LaProp", {}),
    "lars": ("pytorch_optimizer.LARS", {}),
    "lion": ("pytorch_optimizer.Lion", {}),
    "mars": ("pytorch_optimizer.MARS", {"optimize_1d": True}),
    "novograd": ("pytorch_optimizer.NovoGrad", {}),
    "prodigy": ("prodigyopt.Prodigy", {}),
    "schedule_free_adamw": ("schedulefree.AdamWScheduleFree", {}),
    "schedule_free_sgd": ("schedulefree.SGDScheduleFree", {}),
    "signum": ("pytorch_optimizer.SignSGD", {}),
    "stable_adamw": ("pytorch_optimizer.StableAdamW", {}),
    "yogi": ("pytorch_optimizer.Yogi", {}),
}
OF_MATRICES = ("lars",)
"""Rules that the opponent applies to matrices only: to vectors it does plain SGD, which is less work."""
SPREAD, SMALL, ONE = "120 tensors, 10.5 M", "1,000 tensors of 64 to 4,096", "one tensor, 40 M"
ROUNDS = {SPREAD: 15, SMALL: 40, ONE: 7}
Step = Callable[[], Any]


def report(only: str | None = None) -> None:
    """Print every table, or the one whose name is given."""
    tables = {"adamw": adamw, "rules": rules, "together": together, "muon": muon, "start": start}
    if only is not None and only not in tables:
        raise ValueError(f"there is no table {only!r}: write one of {', '.join(tables)}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32; ratios of the least times")
    for name, make in tables.items():
        if only in (None, name):
            console.print(make())


def adamw() -> Table:
    """AdamW against torch's fused one."""
    table = _table("AdamW, full step", "ours", "torch fused", "ratio", "torch default", "ratio")
    for work in (SPREAD, SMALL, ONE):
        steps = [
            _step(optim.CLASSES["AdamW"], work),
            _step(torch.optim.AdamW, work, fused=True),
            _step(torch.optim.AdamW, work),
        ]
        ours, fused, default = race(steps, ROUNDS[work])
        table.add_row(work, _ms(ours), _ms(fused), _times(fused, ours), _ms(default), _times(default, ours))
    return table


def rules() -> Table:
    """Every elementwise rule against torch's default, or against the library that has it."""
    table = _table("Elementwise rules, full step", "opponent", SPREAD, "ratio", SMALL, "ratio")
    entries = [(name, {}) for name, rule in RULES.items() if not rule.matrix]
    entries.insert([name for name, _ in entries].index("sgd") + 1, ("sgd", {"momentum": 0.9, "nesterov": True}))
    for name, both in entries:
        opponent, options = OPPONENTS.get(name, (f"torch.optim.{class_name(name)}", {}))
        row = []
        for work in (SPREAD, SMALL):
            pair = (optim.CLASSES[class_name(name)], both), (_named(opponent), both | options)
            ours, other = race(
                [_step(kind, work, name in OF_MATRICES, **given) for kind, given in pair], ROUNDS[work] // 2
            )
            row += [_ms(ours), _times(other, ours)]
        table.add_row(name + (", Nesterov" if both else ""), opponent, *row)
    return table


def together() -> Table:
    """Clipping, finite check, running mean of weights and step in one, against the separate calls."""
    table = _table("AdamW with clip, finite check, EMA", "ours", "torch fused and calls", "ratio")
    for work in (SPREAD, SMALL):
        parameters = _parameters(work)
        step = optim.CLASSES["AdamW"](parameters, clip=1.0, skip_nonfinite=True, ema=0.999).step
        ours, theirs = race([step, _separate(_parameters(work))], ROUNDS[work])
        table.add_row(work, _ms(ours), _ms(theirs), _times(theirs, ours))
    return table


def _separate(parameters: list[nn.Parameter]) -> Step:
    """What one writes with torch alone."""
    optimizer = torch.optim.AdamW(parameters, fused=True)
    averages = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def step() -> None:
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimizer.step()
            for average, p in zip(averages, parameters, strict=True):
                average.lerp_(p, 0.001)

    return step


def muon() -> Table:
    """Muon on equal matrices against torch's."""
    table = _table("Muon, 24 matrices of 256 x 256", "ours", "torch.optim.Muon", "ratio")
    made = [_matrices(), _matrices()]
    ours, theirs = race([optim.CLASSES["Muon"](made[0]).step, torch.optim.Muon(made[1]).step], 15)
    table.add_row("full step", _ms(ours), _ms(theirs), _times(theirs, ours))
    return table


def _matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(256, 256)) for _ in range(24)]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def start() -> Table:
    """The first step in a new process, without and with machine code on disk, and what importing costs."""
    table = _table("In a new process (median of 5)", "ms")
    with tempfile.TemporaryDirectory() as cache:
        fresh = [_first_step({"STEEPEST_CACHE": f"{cache}/{run}"}) for run in range(5)]
        again = [_first_step({"STEEPEST_CACHE": f"{cache}/0"}) for _ in range(5)]
    table.add_row("first step of AdamW, compiled", f"{_median(fresh):.1f}")
    table.add_row("first step of AdamW, from cache", f"{_median(again):.1f}")
    pairs = [(_import_time("torch"), _import_time("torch, steepest")) for _ in range(5)]
    table.add_row("import torch", f"{_median([a for a, _ in pairs]):.0f}")
    table.add_row("import steepest on top", f"{_median([b - a for a, b in pairs]):.0f}")
    return table


_FIRST_STEP = """
import time, torch, steepest
p = torch.nn.Parameter(torch.ones(100)); p.grad = torch.ones(100)
optimizer = steepest.optim.AdamW([p])
import llvmlite.binding
began = time.perf_counter(); optimizer.step(); print((time.perf_counter() - began) * 1e3)
"""


def _first_step(environment: dict[str, str]) -> float:
    return float(_python(_FIRST_STEP, environment))


def _import_time(modules: str) -> float:
    return float(
        _python(f"import time; t = time.perf_counter(); import {modules}; print((time.perf_counter() - t) * 1e3)")
    )


def _python(code: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def race(steps: Sequence[Step], rounds: int) -> list[float]:
    """Return the least seconds of each step, taken in turns after three warm-up rounds."""
    least = [float("inf")] * len(steps)
    for turn in range(rounds + 3):
        for place, step in enumerate(steps):
            began = perf_counter()
            step()
            if turn >= 3:
                least[place] = min(least[place], perf_counter() - began)
    return least


def _parameters(work: str, matrices: bool = False) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    sizes = {
        SPREAD: [87_381] * 120,
        SMALL: torch.randint(64, 4097, (1000,), generator=generator).tolist(),
        ONE: [40_000_000],
    }[work]
    made = [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]
    made = [nn.Parameter(p.detach()[:, None]) for p in made] if matrices else made
    for p in made:
        p.grad = torch.randn(p.shape, generator=generator)
    return made


def _step(optimizer: Any, work: str, matrices: bool = False, **options: Any) -> Step:
    made = optimizer(_parameters(work, matrices), **options)
    if hasattr(made, "train"):  # schedulefree refuses to step before it
        made.train()
    return made.step


def _named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        raise ModuleNotFoundError(f"this table compares with {module}: pip install {module}") from None


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def _times(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.2f}"


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
