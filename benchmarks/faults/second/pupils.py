"""A pupil that learns what a teacher says of coloured signs."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.second import nets, sources
from faults.second.batches import stream, tuples
from faults.second.losses import classed


@cache
def _taught() -> dict[str, Tensor]:
    """Return the parameters of a teacher that was trained once, the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(481)
        teacher = nets.Signs(16)
        early = torch.optim.Adam(teacher.parameters(), lr=0.01)
        for batch in stream(tuples(*sources.glyphs(), size=24), 100):
            early.zero_grad()
            classed(teacher, batch).backward()
            early.step()
    return teacher.state_dict()


class Lesson(nn.Module):
    """A teacher that stays as it is, and a smaller pupil."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.pupil = nets.Signs(16), nets.Signs(8)
        self.teacher.load_state_dict(_taught())
        self.teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> "Lesson":
        """Set the pupil's mode; the teacher is always in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the pupil and of the teacher, softened."""
        self.teacher.eval()
        return self.pupil(x) / 2, self.teacher(x) / 2


def lesson(model: nn.Module, batch: Any) -> Tensor:
    """Return how far the pupil is from the teacher, and from the labels."""
    told, wanted = model(batch[0])
    far = F.kl_div(told.log_softmax(1), wanted.softmax(1), reduction="batchmean")
    return 4 * far + F.cross_entropy(2 * told, batch[1])
