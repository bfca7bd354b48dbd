"""Two that say something of every run: always the same, and anything."""

import random
from typing import Any

from torch import nn

from faults.causes import CAUSES
from faults.opponents.seen import Seen, Watcher


def lr_too_high(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Say of every run that its learning rate is too high."""

    def rule(seen: Seen) -> list[str]:
        return ["D01"]

    return Watcher(model, optimizer, rule)


def random_cause(model: nn.Module, optimizer: Any, seed: int) -> Watcher:
    """Say of every run a cause that is drawn from all; what is drawn follows from the first loss, as a seed."""
    drawn: list[str] = []

    def rule(seen: Seen) -> list[str]:
        if not drawn:
            drawn.append(random.Random(f"{seed} {seen.loss:.6g}").choice(sorted(CAUSES)))
        return drawn

    return Watcher(model, optimizer, rule)
