"""How noisy the gradient is: from how large a batch on more samples hardly help."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.pilot.repeats import Watched

KEEP = 0.9
"""Of what was read before, at each reading."""

EVERY = 10
"""Of the steps that leave a row, some 500 in a run, one in so many is read: each costs two norms of everything."""

FIRST = 20
"""Updates before which a running mean is too short to tell."""


class Noise:
    """Reads the gradient noise scale off an optimizer of ours while it trains, without further gradients.

    The gradient of a batch is the true one and noise: E|g|^2 = |G|^2 + V. Its running mean m, which Muon and AdamW
    keep, has less of the noise: E|m|^2 = |G|^2 + c V, c = (1 - beta) / (1 + beta) (1 + beta^t) / (1 - beta^t) once m
    is divided by 1 - beta^t. The batch at which noise and signal are equal is B V / |G|^2, the simple noise scale of
    McCandlish et al. 2018, arXiv:1812.06162, equation 2.9. Change of the true gradient within the mean counts as noise.
    """

    def __init__(self, optimizer: Optimizer, source: Watched) -> None:
        self._optimizer, self._source = optimizer, source
        self._noise = self._signal = 0.0
        self._heard = 0

    def hear(self, step: int) -> None:
        """Read, after some of the steps that leave a row."""
        self._heard += 1
        if self._heard % EVERY == 0:
            self.read(step + 1)

    @torch.no_grad()
    def read(self, step: int) -> None:
        """Take in the gradients that update number `step`, from 1, was made with."""
        if step < FIRST:
            return
        noise = signal = 0.0
        for group in self._optimizer.param_groups:
            beta = group["momentum"] if group["rule"] == "muon" else group["betas"][0]
            left = beta**step
            c = (1 - beta) / (1 + beta) * (1 + left) / (1 - left)
            moved = [each for each in group["params"] if each.grad is not None and "m" in self._optimizer.state[each]]
            now = _square([each.grad for each in moved])
            mean = _square([self._optimizer.state[each]["m"] for each in moved]) / (1 - left) ** 2
            noise, signal = noise + (now - mean) / (1 - c), signal + (mean - c * now) / (1 - c)
        self._noise = KEEP * self._noise + (1 - KEEP) * noise
        self._signal = KEEP * self._signal + (1 - KEEP) * signal

    def scale(self) -> float | None:
        """Return the noise scale in samples; None before a reading, infinite where no signal is left."""
        if self._noise == self._signal == 0:
            return None
        return self._source.rows * max(0.0, self._noise) / self._signal if self._signal > 0 else math.inf

    def __str__(self) -> str:
        scale, rows = self.scale(), self._source.rows
        if scale is None:
            return ""
        much = "more than can be told" if math.isinf(scale) else f"about {scale:.2g}"
        if rows < scale / 2:
            advice = "larger ones would need fewer steps, nearly in proportion"
        elif rows > scale * 2:
            advice = "smaller ones would need hardly more steps"
        else:
            advice = "larger ones would begin to be wasted"
        return f"gradient noise equals signal at batches of {much} samples; these had {rows}: {advice}"


def _square(tensors: Sequence[Tensor | None]) -> float:
    given = [tensor for tensor in tensors if tensor is not None]
    return float(nn.utils.get_total_norm(given)) ** 2 if given else 0.0
