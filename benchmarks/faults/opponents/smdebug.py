"""Rules that SageMaker Debugger documents, with its defaults, each read as the cause that its text suggests."""

import math
from collections import Counter
from typing import Any

from torch import nn

from faults.opponents.seen import Seen, Watcher

PATIENCE = 5
"""Steps in a row for which a rule must hold before it speaks."""


def smdebug(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Vanishing gradient, exploding tensor, update ratio, dead ReLU, saturation, spread of layers, falling loss."""
    losses: list[float] = []
    held: Counter[str] = Counter()

    def rule(seen: Seen) -> list[str]:
        losses.append(seen.loss)
        if not seen.finite or (not math.isfinite(seen.loss) and len(losses) > 1):
            return ["C04"]
        now = set(_holding(seen, losses))
        for cause in (*held, *now):
            held[cause] = held[cause] + 1 if cause in now else 0
        return [cause for cause, steps in held.items() if steps >= PATIENCE]

    return Watcher(model, optimizer, rule)


def _holding(seen: Seen, losses: list[float]) -> list[str]:
    """Return the causes whose rules hold at this step."""
    found = []
    if any(gradient < 1e-7 for gradient in seen.gradients.values()):
        found.append("C03")
    if any(ratio > 10 for ratio in seen.ratios.values()):
        found.append("D01")
    if any(ratio < 1e-8 for ratio in seen.ratios.values()):
        found.append("D03")
    if any(share > 0.99 for share in seen.zeros.values()):
        found.append("C05")
    if any(share > 0.5 for share in seen.saturated.values()):
        found.append("C06")
    if len(losses) <= 10 and _spread(seen) > 100:
        found.append("C02")
    if len(losses) > 10 and losses[-1] >= losses[-11]:
        found.append("D21")
    return found


def _spread(seen: Seen) -> float:
    """Return how far apart the gradients of layers are."""
    sizes = [size for size in seen.norms.values() if size > 0]
    return max(sizes) / min(sizes) if sizes else 1.0
