"""One rule stepped by its kernels, with every tensor a slice of a guarded buffer, and by its formula in NumPy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from steepest.formula import sides
from steepest.optim import Optimizer
from steepest.rule import Rule
from steepest.rules import RULES

SIZES = (0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 1000, 16384, 16385, 40001)
GUARD = 77.0
ELEMENTWISE = {name: rule for name, rule in RULES.items() if not rule.matrix}

# Each option that makes another graph, away from its default.
SWITCHED = {
    "adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1},
    "adam": {"amsgrad": True},
    "adamw": {"amsgrad": True},
    "ademamix": {"alpha_warmup": 3, "beta3_warmup": 3},
    "adopt": {"decouple": True},
    "asgd": {"t0": 1, "lambd": 0.1},
    "nadam": {"decoupled_weight_decay": True},
    "prodigy": {"decouple": False, "use_bias_correction": True, "safeguard_warmup": True, "growth_rate": 1.5},
    "radam": {"decoupled_weight_decay": True, "beta2": 0.5},
    "rmsprop": {"momentum": 0.9, "centered": True},
    "rprop": {"step_sizes": (1e-3, 0.1)},
    "sgd": {"momentum": 0.9, "nesterov": True},
    "schedule_free_adamw": {"r": 1, "weight_lr_power": 1},
    "schedule_free_sgd": {"r": 1, "weight_lr_power": 1},
    "signum": {"momentum": 0},
}


def switched(rule: Rule) -> dict[str, Any]:
    """Return hyper-parameters that take the rule through its other branches, weight decay among them."""
    decay = {"weight_decay": 0.1} if "weight_decay" in rule.options else {}
    return {**decay, "lr": 0.1, **SWITCHED.get(rule.name, {})}


class Guarded:
    """Tensors that are slices of one buffer each, `offset` elements from its start, with guards around them."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.buffers: list[tuple[torch.Tensor, int]] = []

    def slice(self, values: torch.Tensor) -> torch.Tensor:
        """Return a copy of the values that lies in a buffer of its own."""
        buffer = torch.full((self.offset + values.numel() + 40,), GUARD, dtype=values.dtype)
        self.buffers.append((buffer, values.numel()))
        part = buffer[self.offset : self.offset + values.numel()]
        part.copy_(values.reshape(-1))
        return part.view(values.shape)

    def touched(self) -> int:
        """Return how many elements outside of the slices are not what they were."""
        outside = [torch.cat([b[: self.offset], b[self.offset + n :]]) for b, n in self.buffers]
        return sum(int((part != GUARD).sum()) for part in outside)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, and so the kernels, use this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def problem(shapes: Sequence[tuple[int, ...]], steps: int = 4, seed: int = 0) -> tuple[list, list]:
    """Return start values and the gradients of each step, float32, of sizes from 0.01 to 10."""
    rng = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) * 10 ** rng.uniform(-2, 1, shape), np.float32)

    return [drawn(shape) for shape in shapes], [[drawn(shape) for shape in shapes] for _ in range(steps)]


def by_kernel(
    rule: Rule, starts: list, gradients: list, offset: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> list[np.ndarray]:
    """Return the parameters after the steps of an optimizer; all its tensors lie at an offset in guarded buffers."""
    guarded = Guarded(offset)
    parameters = [torch.nn.Parameter(guarded.slice(torch.from_numpy(start).to(dtype))) for start in starts]
    optimizer = Optimizer(parameters, rule, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = guarded.slice(torch.from_numpy(gradient).to(dtype))
        optimizer.step()
        for state in optimizer.state.values():
            state.update({k: guarded.slice(v) for k, v in state.items() if k != "step" and v.numel() > 1})
    assert guarded.touched() == 0
    return [as_array(parameter, dtype) for parameter in parameters]


def by_formula(
    rule: Rule,
    starts: list,
    gradients: list,
    dtype: torch.dtype = torch.float32,
    state_dtype: torch.dtype | None = None,
    **hyper: Any,
) -> list[np.ndarray]:
    """Return the parameters after the same steps of the rule called with arrays, one tensor at a time.

    Between steps they, and the states, are kept in the dtypes of the optimizer's.
    """
    results = []
    for place, start in enumerate(starts):
        shape = sides(start) if rule.matrix else start.shape
        p = stored(start.reshape(shape), dtype)
        state = rule.zeros(p)
        for t, step in enumerate(gradients, 1):
            with np.errstate(all="ignore"):
                p, *state = rule(p, stored(step[place].reshape(shape), dtype), *state, t=t, **hyper)
            p, *state = stored(p, dtype), *(stored(s, state_dtype) for s in state)
        results.append(p.reshape(start.shape))
    return results


def stored(values: Any, dtype: torch.dtype | None) -> Any:
    """Return an array as it comes back from memory of this dtype; scalars are kept in double."""
    if not isinstance(values, np.ndarray | np.generic):
        return values
    values = np.asarray(values)
    return values if dtype is None else as_array(torch.from_numpy(values).to(dtype), dtype)


def as_array(tensor: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Return a tensor as an array of the type that kernels compute in."""
    return tensor.detach().to(torch.float64 if dtype == torch.float64 else torch.float32).numpy()


def different(ours: list[np.ndarray], theirs: list[np.ndarray]) -> int:
    """Return how many elements differ in a bit; a NaN equals a NaN."""
    return sum(
        int((~((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b)))).sum())
        for a, b in zip(ours, theirs, strict=True)
    )
