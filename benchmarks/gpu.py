"""What a step costs on a CUDA device: ours against torch's fused and foreach optimizers, in turns in one process.

    python benchmarks/gpu.py

"done" is until the device has finished, "returns" until the call of step() has. Least of all rounds; a ratio above 1
means that ours is faster.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from steepest import optim

_draw = torch.Generator().manual_seed(0)
WORKS: dict[str, list[int]] = {
    "120 tensors, 10.5 M": [87_381] * 120,
    "1,000 tensors of 64 to 4,096": torch.randint(64, 4097, (1000,), generator=_draw).tolist(),
    "one tensor, 40 M": [40_000_000],
}
FUSED = ("AdamW", "Adam", "SGD", "Adagrad")  # the rules for which torch has a fused kernel
RULES: dict[str, dict[str, Any]] = {
    "AdamW": {}, "Adam": {}, "SGD": {"momentum": 0.9, "nesterov": True, "lr": 1e-3}, "Adagrad": {}, "RMSprop": {},
    "NAdam": {}, "RAdam": {}, "Adamax": {}, "Adadelta": {}, "Rprop": {}, "ASGD": {},
}  # fmt: skip
DTYPES = (torch.float32, torch.bfloat16)
ROUNDS = 30


def main() -> None:
    """Print the table, or that there is nothing to measure on."""
    if not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for dtype in DTYPES:
        console.print(table(dtype, "cuda", WORKS))


def table(dtype: torch.dtype, device: str, works: Mapping[str, list[int]]) -> Table:
    """Return a row for each rule and piece of work."""
    made = Table("rule", "work", "done", "/ fused", "/ foreach", "returns", "/ fused", "/ foreach")
    made.title = f"Full step, parameters in {str(dtype).removeprefix('torch.')}"
    for name, options in RULES.items():
        for work, sizes in works.items():
            forms = [{"fused": True}] * (name in FUSED) + [{"foreach": True}]
            steps = [step_of(optim.CLASSES[name], dtype, device, sizes, options)]
            steps += [step_of(getattr(torch.optim, name), dtype, device, sizes, options | form) for form in forms]
            done, returned = race(steps, ROUNDS)
            made.add_row(name, work, *_cells(done), *_cells(returned))
    return made


def step_of(
    optimizer: Any, dtype: torch.dtype, device: str, sizes: list[int], options: dict[str, Any]
) -> Callable[[], Any]:
    """Return the step of an optimizer whose parameters have gradients."""
    parameters = [nn.Parameter(torch.randn(size, device=device, dtype=dtype)) for size in sizes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return optimizer(parameters, **options).step


def race(steps: Sequence[Callable[[], Any]], rounds: int) -> tuple[list[float], list[float]]:
    """Return the least seconds of each step until the device has finished and until the call returns."""
    done, returned = [float("inf")] * len(steps), [float("inf")] * len(steps)
    for turn in range(rounds + 3):  # the first three compile and warm up
        for place, step in enumerate(steps):
            torch.cuda.synchronize()
            began = perf_counter()
            step()
            host = perf_counter() - began
            torch.cuda.synchronize()
            if turn >= 3:
                done[place] = min(done[place], perf_counter() - began)
                returned[place] = min(returned[place], host)
    return done, returned


def _cells(times: list[float]) -> list[str]:
    ours, *others = times
    ratios = [f"{theirs / ours:.2f}" for theirs in others]
    return [f"{ours * 1e6:.0f} us", *["none"] * (2 - len(ratios)), *ratios]


if __name__ == "__main__":
    main()
