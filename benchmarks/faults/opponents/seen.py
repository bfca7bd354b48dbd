"""What the rules of other tools look at: losses, gradients, updates and activity of units, step by step."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steepest.record import Finding

UNITS = (nn.ReLU, nn.Tanh, nn.Sigmoid)


@dataclass
class Seen:
    """Of the step just made. loss: of the last backward pass. gradients: mean absolute entry by parameter; norms:
    their norms; ratios: of update to weight. idle: share of zeros and of saturated outputs, by module with such units.

    step: number of optimizer steps so far. fresh: a step was made since the last batch.
    """

    step: int = 0
    fresh: bool = False
    loss: float = math.nan
    gradients: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    finite: bool = True
    zeros: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, float] = field(default_factory=dict)


class Watcher:
    """Passes batches through, and asks a rule after each what it says.

    rule: what was seen -> causes. The first time that one is said makes a finding. findings: in the order they were
    said.
    """

    def __init__(self, model: nn.Module, optimizer: Any, rule: Callable[[Seen], Iterable[str]]) -> None:
        self.rule, self.seen, self.steps = rule, Seen(), 0
        self.findings: list[Finding] = []
        self.named = {id(each): name for name, each in model.named_parameters()}
        self.model = model
        self.hooks = [optimizer.register_step_pre_hook(self._before), optimizer.register_step_post_hook(self._after)]
        self.hooks += [
            module.register_forward_hook(self._look(name))
            for name, module in model.named_modules()
            if isinstance(module, UNITS)
        ]
        self.backward = torch.Tensor.backward

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches."""
        for batch in batches:
            self._hear()
            try:
                yield batch
            finally:
                torch.Tensor.backward = self.backward
            self.steps += 1
            for cause in self.rule(self.seen):
                self.say(cause)
            self.seen.fresh = False

    def say(self, cause: str) -> None:
        """Make a finding of it, once."""
        if all(found.cause != cause for found in self.findings):
            self.findings.append(Finding(cause, cause, "suspected", self.steps, self.steps, ""))

    def close(self) -> None:
        """Take the hooks away."""
        for hook in self.hooks:
            hook.remove()

    def _hear(self) -> None:
        """Note the loss of the next backward pass."""

        def backward(loss: Tensor, *given: Any, **more: Any) -> Any:
            self.seen.loss = loss.detach().sum().item()
            return self.backward(loss, *given, **more)

        torch.Tensor.backward = backward  # type: ignore[method-assign]

    @torch.no_grad()
    def _before(self, *_: Any) -> None:
        mine = [(self.named.get(id(each), ""), each) for each in self.model.parameters()]
        self.weights = {name: each.detach().clone() for name, each in mine}
        grads = {name: each.grad for name, each in mine if each.grad is not None}
        self.seen.gradients = {name: grad.abs().float().mean().item() for name, grad in grads.items() if grad.numel()}
        self.seen.norms = {name: grad.float().norm().item() for name, grad in grads.items()}

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        self.seen.step, self.seen.fresh, self.seen.finite = self.seen.step + 1, True, True
        for name, each in self.model.named_parameters():
            if name in self.weights and each.shape == self.weights[name].shape and each.numel() > 1:
                size = self.weights[name].float().norm().item()
                self.seen.ratios[name] = (each - self.weights[name]).float().norm().item() / max(size, 1e-12)
                self.seen.finite &= bool(each.isfinite().all())

    def _look(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            if module.training:
                edge = output.detach().abs() if isinstance(module, nn.Tanh) else (2 * output.detach() - 1).abs()
                self.seen.zeros[name] = (output == 0).float().mean().item()
                self.seen.saturated[name] = 0.0 if isinstance(module, nn.ReLU) else (edge > 0.99).float().mean().item()

        return hook
