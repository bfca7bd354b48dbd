"""What training frameworks guard with: a stop at NaN, a plateau, a spike. Each guard's remedy says what cause it means.

The numbers are the defaults that the frameworks document.
"""

import math
from collections import deque
from typing import Any

from torch import nn

from faults.opponents.seen import Seen, Watcher

EPOCH = 10
"""Batches that stand for an epoch, for a plateau is counted in epochs and runs here are short."""


def nan_plateau(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Keras: stop at a non-finite loss (read as D01), lower the rate on a plateau (read as D02).

    A plateau: ten epochs without a mean loss that is 1e-4 below the best.
    """
    losses: list[float] = []
    best, waited = math.inf, 0

    def rule(seen: Seen) -> list[str]:
        nonlocal best, waited
        if not math.isfinite(seen.loss):
            return ["D01"] if seen.fresh else []
        losses.append(seen.loss)
        if len(losses) % EPOCH:
            return []
        mean = sum(losses[-EPOCH:]) / EPOCH
        best, waited = (mean, 0) if mean < best - 1e-4 else (best, waited + 1)
        return ["D02"] if waited >= 10 else []

    return Watcher(model, optimizer, rule)


def spike(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Lightning: a loss that is not finite (read as B01, for it would skip the batch), or a spike (read as B12).

    A spike: further than twice the mean of the last ten from that mean, and above the last.
    """
    window: deque[float] = deque(maxlen=10)

    def rule(seen: Seen) -> list[str]:
        if not math.isfinite(seen.loss):
            return ["B01"] if window else []
        mean = sum(window) / len(window) if window else math.nan
        spiked = len(window) == window.maxlen and abs(seen.loss - mean) >= 2 * abs(mean) and seen.loss > window[-1]
        window.append(seen.loss)
        return ["B12"] if spiked else []

    return Watcher(model, optimizer, rule)
