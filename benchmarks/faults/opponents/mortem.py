"""Detectors of a post-mortem analysis, with absolute limits as torchmortem documents them, read as causes."""

import math
from collections import Counter
from typing import Any

from torch import nn

from faults.opponents.seen import Seen, Watcher


def mortem(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Gradient ratio 100, norm 1000, half of the units dead or saturated, update ratio from 1e-5 to 0.1, loss doubled.

    What holds for a tenth of the steps is said, the most frequent first.
    """
    counts: Counter[str] = Counter()
    losses: list[float] = []

    def rule(seen: Seen) -> list[str]:
        if not seen.fresh:
            return []
        losses.append(seen.loss)
        counts.update(_holding(seen, losses))
        enough = max(10, len(losses) // 10)
        return [cause for cause, steps in counts.most_common() if steps >= enough]

    return Watcher(model, optimizer, rule)


def _holding(seen: Seen, losses: list[float]) -> list[str]:
    """Return the causes whose detectors see something at this step."""
    sizes = [size for name, size in seen.norms.items() if "bias" not in name]
    total = math.hypot(*sizes) if sizes else 0.0
    ratios = list(seen.ratios.values())
    recent = [loss for loss in losses[-21:-1] if math.isfinite(loss)]
    holds = {
        "C04": total > 1e3 or not math.isfinite(total),
        "C03": len(sizes) > 1 and sizes[0] * 100 < sizes[-1],
        "C05": any(share > 0.5 for share in seen.zeros.values()),
        "C06": any(share > 0.5 for share in seen.saturated.values()),
        "D01": max(ratios, default=0) > 0.1 or (min(recent, default=0) > 0 and not seen.loss < 2 * min(recent)),
        "D03": max(ratios, default=1) < 1e-5,
    }
    return [cause for cause, held in holds.items() if held]
