"""One run of the optimizer under test: exact inputs, steps, and what it leaves behind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import Parameter

from steepest.testing.law import Broken, sentence
from steepest.testing.subject import Subject, step_with

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class Course:
    """Start values of every parameter and the gradients of every step, in float64.

    All are short multiples of powers of two, so that float16 and bfloat16 hold them exactly.
    """

    start: list[Tensor]
    gradients: list[list[Tensor]]


def course(subject: Subject, shapes: Sequence[tuple[int, ...]], steps: int = 6, seed: int = 0) -> Course:
    """Draw start values about 16 steps' motion in size, and gradients between 1/2 and 2 that sometimes turn round."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).double()

    scale = stride(subject)
    start = [whole(16, 128, shape) / 128 * scale * (2 * whole(0, 2, shape) - 1) for shape in shapes]
    lasting = [2 * whole(0, 2, shape) - 1 for shape in shapes]
    gradients = []
    for step in range(steps):
        turned = [1 - 2 * (whole(0, 4, shape) == 0).double() if step % 4 == 3 else 1.0 for shape in shapes]
        sizes = [whole(32, 128, shape) / 64 for shape in shapes]
        gradients.append([a * b * c for a, b, c in zip(lasting, turned, sizes, strict=True)])
    return Course(start, gradients)


def stride(subject: Subject) -> float:
    """A power of two near 16 times the motion of one step: large against the step, yet the step is not lost in it."""
    if subject not in STRIDES:
        STRIDES[subject] = measured_stride(subject)
    return STRIDES[subject]


STRIDES: WeakKeyDictionary[Subject, float] = WeakKeyDictionary()


def measured_stride(subject: Subject) -> float:
    """The same, from the median over one step on a small matrix."""
    shape = (6, 4)
    probe = Trial(subject, parameters([torch.full(shape, 0.5, dtype=torch.float64)]), **subject.loop)
    generator = torch.Generator().manual_seed(1)
    before = probe.values()[0]
    probe.step([0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)])
    motion = (probe.values()[0] - before).abs().median()
    if not 0 < motion < float("inf"):
        return 1.0
    return 2.0 ** float(torch.log2(16 * motion).round().clamp(-12, 0))


def parameters(start: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> list[Parameter]:
    """Fresh parameters with these values."""
    return [Parameter(value.to(dtype, copy=True)) for value in start]


class Trial:
    """A subject at work on parameters: `step`, then look at `values` and `state`."""

    def __init__(self, subject: Subject, parameters: Sequence[Parameter], **changes: Any) -> None:
        self.parameters = list(parameters)
        self.steps_done = 0
        self.optimizer = subject.make(self.parameters, **changes)

    @classmethod
    def of(cls, parameters: Sequence[Parameter], optimizer: torch.optim.Optimizer, steps_done: int = 0) -> "Trial":
        """A trial on an optimizer that is already built, perhaps in the middle of a run."""
        trial = object.__new__(cls)
        trial.parameters = list(parameters)
        trial.steps_done = steps_done
        trial.optimizer = optimizer
        return trial

    def step(self, gradients: Gradients) -> None:
        """One step with these gradients, cast to the dtype of each parameter but in their own strides."""
        # A rule that draws random numbers draws the same ones at the same step of every trial.
        torch.default_generator.manual_seed(1000 + self.steps_done)

        def prepare() -> None:
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else cast(gradient, parameter.dtype)

        try:
            step_with(self.optimizer, prepare)
        except Exception as error:
            shapes = ", ".join(f"{str(p.dtype)[6:]}{list(p.shape)}" for p in self.parameters[:3])
            more = f" and {len(self.parameters) - 3} more" if len(self.parameters) > 3 else ""
            raise Broken(f"step {self.steps_done + 1} on {shapes}{more} raised {sentence(error)}") from error
        self.steps_done += 1

    def run(self, steps: Sequence[Gradients]) -> "Trial":
        """Several steps."""
        for gradients in steps:
            self.step(gradients)
        return self

    def values(self) -> list[Tensor]:
        """A copy of every parameter, in float64."""
        return [plain(parameter) for parameter in self.parameters]

    def raw(self) -> list[Tensor]:
        """A copy of every parameter, in its own dtype."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def state(self) -> dict[str, Any]:
        """A copy of every leaf of the state dict, by its path."""
        return dict(leaves(self.optimizer.state_dict()))

    def own_state(self, index: int) -> list[Tensor]:
        """Copies of the state tensors of one parameter."""
        state = leaves(self.optimizer.state.get(self.parameters[index], {}))
        return [value for _, value in state if isinstance(value, Tensor)]


def cast(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient in this dtype, always a tensor of its own, with the strides it came with."""
    if 0 in gradient.stride() and gradient.numel() > 1:  # an expanded gradient stays expanded
        return gradient.reshape(-1)[:1].to(dtype, copy=True).expand(gradient.shape)
    return gradient.detach().to(dtype, copy=True)


def plain(tensor: Tensor) -> Tensor:
    """A contiguous float64 copy."""
    return tensor.detach().to(torch.float64, copy=True).contiguous()


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts, lists and tuples with its path; tensors as copies."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, tree.detach().clone() if isinstance(tree, Tensor) else tree
