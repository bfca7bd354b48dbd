"""The optimizer under test: how to build it, and what it takes."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steepest.testing.law import NotApplicable, sentence

# Choices of execution path: they may change the speed of a step, never its numbers.
PATHS = ("foreach", "fused")

# Everything that pulls a parameter towards zero without being asked by a gradient.
DECAYS = ("weight_decay", "lambd")

Reference = Callable[..., Sequence[Tensor]]


class Subject:
    """An optimizer under test: a class, or any callable, that takes parameters and these options.

    >>> Subject(torch.optim.SGD, lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9)

    reference: optional independent formula, `reference(start, gradients, **hyper) -> parameters`: from float64 tensors
        and one list of gradients per step to the parameters after the last step. `hyper` is the optimizer's `defaults`.
        Without it the reference is the same optimizer on its plainest path in float64.
    breaks: laws that this optimizer breaks on purpose, each with its reason.
    """

    def __init__(
        self,
        build: Callable[..., torch.optim.Optimizer],
        /,
        *,
        reference: Reference | None = None,
        breaks: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if not callable(build):
            raise TypeError(f"Subject takes an optimizer class, or a callable that builds one, and got {build!r}.")
        self.create = build
        self.options = options
        self.reference = reference
        self.breaks = dict(breaks or {})
        self._taken: dict[tuple[int, ...], bool] = {}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"

    @property
    def name(self) -> str:
        """Name of the class or function that builds the optimizer."""
        return getattr(self.create, "__qualname__", type(self.create).__qualname__)

    def build(self, parameters: Iterable[Any], **changes: Any) -> torch.optim.Optimizer:
        """Build the optimizer, with its options changed; whatever its constructor raises is passed on."""
        optimizer = self.create(list(parameters), **{**self.options, **changes})
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{self.name} built a {type(optimizer).__name__}, which is not a torch.optim.Optimizer.")
        begin = getattr(optimizer, "train", None)  # schedule-free rules refuse to step before this
        if callable(begin):
            begin()
        return optimizer

    def make(self, parameters: Iterable[Any], **changes: Any) -> torch.optim.Optimizer:
        """Build the optimizer for a law; if it declines these parameters or options, so does the law."""
        try:
            return self.build(parameters, **changes)
        except Exception as error:
            what = ", ".join(f"{key}={value!r}" for key, value in changes.items()) or "these parameters"
            raise NotApplicable(f"it declines {what} ({sentence(error)})") from error

    @functools.cached_property
    def keywords(self) -> Mapping[str, inspect.Parameter]:
        """The named options of the constructor."""
        parameters = inspect.signature(self.create).parameters.values()
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return {item.name: item for item in list(parameters)[1:] if item.kind in named}

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """Every option of a built optimizer, with the value it has."""
        return dict(self.build([self.blank((4, 3))]).defaults)

    def takes_option(self, name: str) -> bool:
        """Whether the constructor has this option."""
        if name in self.keywords or name in self.options:
            return True
        kinds = [item.kind for item in inspect.signature(self.create).parameters.values()]
        return inspect.Parameter.VAR_KEYWORD in kinds and name in self.defaults

    def only(self, **changes: Any) -> dict[str, Any]:
        """Those of the changes that name an option of this optimizer."""
        return {name: value for name, value in changes.items() if self.takes_option(name)}

    @property
    def loop(self) -> dict[str, Any]:
        """Options that choose the plainest path."""
        return self.only(**dict.fromkeys(PATHS, False))

    @property
    def undecayed(self) -> dict[str, Any]:
        """Options that switch every decay off."""
        return self.only(**dict.fromkeys(DECAYS, 0.0))

    @property
    def rate(self) -> float:
        """The learning rate it starts with; a law that needs one does not concern an optimizer without."""
        rate = self.defaults.get("lr")
        if not self.takes_option("lr") or not isinstance(rate, int | float | Tensor):
            raise NotApplicable("it has no learning rate given as a number")
        return float(rate)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a float32 parameter of this shape can be stepped at all."""
        if shape not in self._taken:
            parameter = self.blank(shape)
            parameter.grad = torch.full(shape, 0.5)
            try:
                optimizer = self.build([parameter])
                step_with(optimizer, lambda: None)
            except Exception:
                self._taken[shape] = False
            else:
                self._taken[shape] = True
        return self._taken[shape]

    def shapes(self, sizes: Iterable[int]) -> list[tuple[int, ...]]:
        """Vectors of these sizes; for a rule of matrices only, matrices with so many rows."""
        wanted = [(size,) if self.takes((5,)) else (size, 4) for size in sizes]
        return [shape for shape in wanted if 0 not in shape or self.takes(shape)]

    @staticmethod
    def blank(shape: tuple[int, ...]) -> torch.nn.Parameter:
        """A float32 parameter of one half everywhere."""
        return torch.nn.Parameter(torch.full(shape, 0.5))


def step_with(optimizer: torch.optim.Optimizer, prepare: Callable[[], None]) -> None:
    """Take one step after `prepare` has set the gradients, inside a closure if the optimizer cannot do without."""
    if not needs_closure(type(optimizer)):
        prepare()
        optimizer.step()
        return

    def evaluate() -> Tensor:
        prepare()
        return torch.tensor(1.0)

    optimizer.step(evaluate)  # pyright: ignore[reportCallIssue, reportArgumentType]


@functools.lru_cache(maxsize=64)
def needs_closure(kind: type[torch.optim.Optimizer]) -> bool:
    """Whether `step` has a closure that is not optional, as in LBFGS."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
