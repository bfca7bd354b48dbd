"""Looks on while a loss is computed once: which criterion it calls, and with what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CRITERIA: dict[Callable[..., Any], str] = {
    functional.cross_entropy: "cross_entropy",
    functional.nll_loss: "nll_loss",
    functional.mse_loss: "mse_loss",
    functional.l1_loss: "l1_loss",
    functional.smooth_l1_loss: "smooth_l1_loss",
    functional.huber_loss: "huber_loss",
    functional.binary_cross_entropy: "binary_cross_entropy",
    functional.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
    functional.kl_div: "kl_div",
    functional.gaussian_nll_loss: "gaussian_nll_loss",
    functional.poisson_nll_loss: "poisson_nll_loss",
}
"""What is known as a criterion; what is written by hand is seen as the functions that it calls."""


@dataclass(frozen=True)
class Call:
    """One call of a torch function: its name, the tensors it was given, what it returned, and its other arguments."""

    function: Callable[..., Any]
    name: str
    inputs: tuple[Tensor, ...]
    output: Any
    options: dict[str, Any]

    @property
    def prediction(self) -> Tensor:
        """What a criterion compares."""
        return self.inputs[0]

    @property
    def target(self) -> Tensor:
        """What it is compared with."""
        return self.inputs[1]


@dataclass
class Seen:
    """All calls in the order they were made."""

    calls: list[Call] = field(default_factory=list)

    @property
    def criteria(self) -> list[Call]:
        """Those of criteria that were given a prediction and a target."""
        return [call for call in self.calls if call.function in CRITERIA and len(call.inputs) >= 2]


class Spy(TorchFunctionMode):
    """Notes each call of a torch function inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given = (*args, *(kwargs or {}).values())
        inputs = tuple(each for each in given if isinstance(each, Tensor))
        options = {name: value for name, value in (kwargs or {}).items() if not isinstance(value, Tensor)}
        name = CRITERIA.get(func) or getattr(func, "__name__", str(func))
        self.seen.calls.append(Call(func, name, inputs, output, options))
        return output


def constant_loss(calls: list[Call]) -> float | None:
    """Return the loss of the best constant prediction, by the targets of several calls of a criterion.

    None if it is not known of this criterion.
    Cross-entropy: the entropy of the classes (nats). Squared errors: the variance of each output, in the mean. Counts:
    that of their mean.
    """
    name = calls[0].name
    if any(call.name != name or call.options.get("reduction", "mean") != "mean" for call in calls):
        return None
    targets = [call.target.detach() for call in calls]
    if name in ("cross_entropy", "nll_loss") and not targets[0].is_floating_point():
        left_out = calls[0].options.get("ignore_index", -100)
        kinds = torch.cat([each.flatten() for each in targets])
        counts = torch.bincount(kinds[kinds != left_out].clamp(min=0)).double()
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * shares.log()).sum()) if len(shares) else None
    if name.startswith("binary_cross_entropy"):
        shares = torch.cat([each.reshape(len(each), -1) for each in targets]).double().mean(0).clamp(1e-12, 1 - 1e-12)
        return float(-(shares * shares.log() + (1 - shares) * (1 - shares).log()).mean())
    if name == "mse_loss":
        return float(torch.cat([each.reshape(len(each), -1) for each in targets]).double().var(0, correction=0).mean())
    if name == "poisson_nll_loss" and not calls[0].options.get("full", False):
        rates = torch.cat([each.reshape(len(each), -1) for each in targets]).double().mean(0)
        return float((rates - torch.xlogy(rates, rates)).mean())
    return None


def floor_loss(calls: list[Call]) -> float:
    """Return the loss of the best predictions there can be, where `constant_loss` is known: 0 but for counts.

    Counts scatter about their rates: the true rates lose half a nat more than the counts themselves would.
    """
    if calls[0].name != "poisson_nll_loss":
        return 0.0
    told = torch.cat([call.target.detach().flatten() for call in calls]).double()
    rate = told.mean()
    least = (told - torch.xlogy(told, told)).mean() + 0.5 * rate.clamp(max=1)
    return float(torch.minimum(least, rate - torch.xlogy(rate, rate)))


def shares_of(value: Tensor, calls: list[Call]) -> list[float] | None:
    """Return the factor of each criterion in a loss that is a sum of them, None where it is anything else."""
    parts = [call.output for call in calls]
    if not value.requires_grad or not all(isinstance(each, Tensor) and each.requires_grad for each in parts):
        return None
    found = torch.autograd.grad(value, parts, allow_unused=True)
    if any(each is None or part.ndim for each, part in zip(found, parts, strict=True)):
        return None
    factors = [float(each) for each in found if each is not None]
    total = sum(factor * float(part.detach()) for factor, part in zip(factors, parts, strict=True))
    return factors if abs(total - float(value.detach())) <= 1e-4 * abs(total) + 1e-9 else None


def ends_of(seen: list[tuple[Tensor, Seen]]) -> tuple[float | None, float]:
    """Return the losses of the best constants and of the best predictions, for a criterion or a sum of several.

    seen: the loss of each of several batches, and what was called for it. None, and 0, where they are not known.
    """
    count = len(seen[0][1].criteria) if seen else 0
    if not count or any(len(each.criteria) != count for _, each in seen):
        return None, 0.0
    columns = list(zip(*(each.criteria for _, each in seen), strict=True))
    factors = [1.0] if count == 1 else shares_of(seen[0][0], seen[0][1].criteria)
    constants = [constant_loss(list(each)) for each in columns]
    known = [each for each in constants if each is not None]
    if factors is None or len(known) < count:
        return None, 0.0
    low = [floor_loss(list(each)) for each in columns]
    best, right = (sum(a * b for a, b in zip(factors, each, strict=True)) for each in (known, low))
    return best, right
