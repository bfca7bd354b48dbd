"""One rule stepped by its kernels, with every tensor a slice of a guarded buffer, and by its formula in NumPy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from steepest.formula import sides
from steepest.optim import Optimizer
from steepest.rule import Rule

SIZES = (0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 1000, 16384, 16385, 40001)
GUARD = 77.0
STEPS = 4


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


def problem(shapes: Sequence[tuple[int, ...]], steps: int = STEPS, seed: int = 0) -> tuple[list, list]:
    """Return start values and the gradients of each step, float32."""
    rng = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) * 10 ** rng.uniform(-2, 1, shape), np.float32)

    return [drawn(shape) for shape in shapes], [[drawn(shape) for shape in shapes] for _ in range(steps)]


def by_kernel(rule: Rule, starts: list, gradients: list, offset: int = 0, **options) -> list[np.ndarray]:
    """Return the parameters after the steps of an optimizer; all its tensors lie at an offset in guarded buffers."""
    guarded = Guarded(offset)
    parameters = [torch.nn.Parameter(guarded.slice(torch.from_numpy(start))) for start in starts]
    optimizer = Optimizer(parameters, rule, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = guarded.slice(torch.from_numpy(gradient))
        optimizer.step()
        for state in optimizer.state.values():
            state.update({k: guarded.slice(v) for k, v in state.items() if k != "step" and v.numel() > 1})
    assert guarded.touched() == 0
    return [parameter.detach().numpy() for parameter in parameters]


def by_formula(rule: Rule, starts: list, gradients: list, **hyper) -> list[np.ndarray]:
    """Return the parameters after the same steps of the rule called with arrays, one tensor at a time."""
    results = []
    for place, start in enumerate(starts):
        shape = sides(start) if rule.matrix else start.shape
        walk = rule.walk(start.reshape(shape), [step[place].reshape(shape) for step in gradients], **hyper)
        with np.errstate(all="ignore"):
            *_, final = walk
        results.append(final.reshape(start.shape))
    return results


def different(ours: list[np.ndarray], theirs: list[np.ndarray]) -> int:
    """Return how many elements differ in a bit; a NaN equals a NaN."""
    return sum(
        int((~((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b)))).sum())
        for a, b in zip(ours, theirs, strict=True)
    )
