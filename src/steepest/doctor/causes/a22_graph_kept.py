"""Graphs of earlier steps that the loss still hangs on."""

from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo
from steepest.doctor.lab import Lab


@cause(
    "A22",
    "graph-kept",
    fix="Detach what goes on to the next step: states, totals, lists of losses; then retain_graph is not needed.",
    when=STEP,
    weight=EXACT,
    masks="A12 B C D",
)
def graph_kept(lab: Lab) -> Found | None:
    """Each step takes longer than the one before, and memory grows.

    backward() keeps graphs, and the graph of the loss has operations in it that were made before the last steps, and
    the same ones at each look.

    Operations are numbered as they are made: those numbers are read.
    """
    oldest = sorted(lab.tap.grammar.oldest.items())[-3:]
    if lab.update is None or len(oldest) < 3 or oldest[-1][0] != lab.update.step or oldest[-1][0] - oldest[0][0] < 2:
        return None
    (first, (_, mark)), (_, (number, _)) = oldest[0], oldest[-1]
    if number < 0 or number >= mark or mark == 0 or any(one >= own for _, (one, own) in oldest):
        return None
    summary = f"The loss of step {oldest[-1][0]} hangs on operations made before step {first}: its graph grows."
    evidence = {"oldest operation": number, "first since then": mark}
    return Found(summary, evidence, proven=True, where=lab.tap.grammar.places.get("backward", ""))


class Plain(torch.optim.Optimizer):
    """Gradient descent on data, which does not notice."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.02})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad.data, alpha=-group["lr"])


def demo(run: Demo) -> None:
    """The state of a recurrent layer goes on with its graph."""
    layer = nn.RNN(1, 8, batch_first=True)
    layer.add_module("head", nn.Linear(8, 1))
    optimizer = Plain(layer.parameters())
    series = (0.4 * torch.arange(601.0)).sin()[None, :, None].repeat(4, 1, 1)
    kept: list[Tensor | None] = [None]

    def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        states, kept[0] = model(batch[0], kept[0])
        return nn.functional.mse_loss(model.head(states), batch[1])

    pieces = [(series[:, at : at + 10], series[:, at + 1 : at + 11]) for at in range(0, 600, 10)]
    for piece in run.watch(layer, optimizer, loss)(pieces):
        optimizer.zero_grad()
        loss(layer, piece).backward(retain_graph=run.faulty)
        optimizer.step()
        if not run.faulty and kept[0] is not None:
            kept[0] = kept[0].detach()
