"""How noisy the gradient is: from how large a batch on more samples hardly help."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steepest.data import count_samples
from steepest.loop.microbatch import Microbatch
from steepest.snapshot import same_random_state_after

AT = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of a run, where the noise is read. Each reading costs as much as an update."""

DOUBLINGS = tuple(number * math.log(2) for number in range(1, 30))
"""Where it is read in an open run, as `Budget.done` measures it: at steps 500, 1500, 3500, ..."""

KEEP = 0.5
"""Of what was read before, at each reading: the noise grows while a model learns."""


class Noise:
    """Reads the gradient noise scale: the batch at which noise and signal of the gradient are equal.

    Two halves of a batch give gradients a and b at the same weights: a b is |G|^2 and |a - b|^2 / 4 the variance V of
    the whole batch's gradient, both in the mean. The scale is B V / |G|^2 for a batch of B samples, the simple noise
    scale of McCandlish et al. 2018, arXiv:1812.06162, equation 2.9, appendix A.1.
    """

    def __init__(self, model: nn.Module, predict: Callable[[Any], Tensor]) -> None:
        self._model, self._predict = model, predict
        self._noise = self._signal = 0.0
        self.rows = 0

    def read(self, batch: Any) -> None:
        """Take in a batch, which is forgotten if it has no halves. The model and torch's random state stay."""
        self.rows = count_samples(batch)
        parts = Microbatch(-(-self.rows // 2)).parts(batch) if self.rows > 1 else []
        if len(parts) != 2:
            return
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        try:
            a, b = (self._gradient(part) for part, _ in parts)
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
        noise = sum(float((x - y).double().square().sum()) for x, y in zip(a, b, strict=True)) / 4
        signal = sum(float((x.double() * y).sum()) for x, y in zip(a, b, strict=True))
        if math.isfinite(noise) and math.isfinite(signal):
            self._noise = KEEP * self._noise + (1 - KEEP) * noise
            self._signal = KEEP * self._signal + (1 - KEEP) * signal

    def scale(self) -> float | None:
        """Return the noise scale in samples; None before a reading, infinite where no signal was seen."""
        if self._noise == self._signal == 0:
            return None
        return self.rows * self._noise / self._signal if self._signal > 0 else math.inf

    def __str__(self) -> str:
        scale = self.scale()
        if scale is None:
            return ""
        if self.rows < scale / 2:
            advice = "larger ones would need fewer steps, nearly in proportion"
        elif self.rows > scale * 2:
            advice = "smaller ones would need hardly more steps"
        else:
            advice = "larger ones would begin to be wasted"
        much = "more than can be told" if math.isinf(scale) else f"about {scale:.2g}"
        return f"gradient noise equals signal at batches of {much} samples; these had {self.rows}: {advice}"

    def _gradient(self, part: Any) -> list[Tensor]:
        weights = [each for each in self._model.parameters() if each.requires_grad]
        with same_random_state_after(), torch.enable_grad():
            found = torch.autograd.grad(self._predict(part), weights, allow_unused=True)
        pairs = zip(found, weights, strict=True)
        return [torch.zeros_like(weight) if each is None else each.to_dense() for each, weight in pairs]
