"""Attention scores are so large that each place looks at one other only."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

SHARP, ALLOWED = 6.0, 1.5
"""Deviation of scores within a row, from which on it is tried, and to which they are brought."""

FIX = "Divide scores by the square root of the head's width, and normalise queries and keys (QK-norm); or a lower rate."
MASKS = "C02 C04 C06 C11 C13 D"


@cause("C09", "attention-too-sharp", fix=FIX, when=MARK, weight=REPLAYED + 0.1, masks=MASKS)
def sharp_attention(lab: Lab) -> Found | None:
    """The loss has spikes or a plateau: attention is all or nothing.

    Scores that go into a softmax, whose result mixes other values, differ by far more than an exponential can tell. A
    replay with scores scaled down where they do gains more.
    """
    return _look(lab) if lab.loss is not None and lab.now >= 25 and lab.gain < 0.9 else None


@cause("C09", "attention-too-sharp", fix=FIX, when=EVENT, weight=REPLAYED + 0.1, masks=MASKS)
def sharp_attention_blows_up(lab: Lab) -> Found | None:
    """The loss blows up.

    As above; and the replay with scaled scores does not blow up.
    """
    return _look(lab) if lab.loss is not None else None


def _look(lab: Lab) -> Found | None:
    if lab.start is None or not lab.passes(1):
        return None
    mode = _Scores(float("inf"))
    with mode:
        lab.ask(lab.start.copy().model, lab.passes(1)[0])
        if mode.sizes:
            lab.ask((lab.recent or lab.start).copy().model, lab.passes(1)[0])
    largest = max(mode.sizes, default=0.0)
    told = better(lab, Change("attention scores scaled", inside=lambda: _Scores(ALLOWED))) if largest > SHARP else None
    if told is None:
        return None
    summary = (
        f"Attention scores have a deviation of {largest:.3g} within a row; brought to {ALLOWED:g}, the loss is "
        f"{told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, {"deviation": largest, **told.evidence}, True, cure=told.change)


class _Scores(TorchFunctionMode):
    """Scales the scores of attention where they are larger than allowed. sizes: their deviations.

    `nn.MultiheadAttention` calls a function in which no mode is heard: there attention itself is wrapped.
    """

    def __init__(self, allowed: float) -> None:
        super().__init__()
        self.allowed = allowed
        self.sizes: list[float] = []
        self._plain: Any = None

    def __enter__(self) -> Any:
        self._plain = functional.scaled_dot_product_attention
        functional.scaled_dot_product_attention = self._attend
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        functional.scaled_dot_product_attention = self._plain
        super().__exit__(*error)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return self._plain(query * self._factor(scores), key, value, *args, **kwargs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention" and len(args) > 2:
            scores = args[0] @ args[1].transpose(-1, -2) * args[0].shape[-1] ** -0.5
            args = (args[0] * self._factor(scores), *args[1:])
        elif name == "softmax" and args and isinstance(args[0], Tensor) and args[0].ndim > 2 and args[0].shape[-1] > 2:
            args = (args[0] * self._factor(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))

    def _factor(self, scores: Tensor) -> float:
        values = scores.detach().float()
        open_ = values > -1e4
        count = open_.sum(-1, keepdim=True).clamp(min=1)
        values = values.masked_fill(~open_, 0.0)
        centred = (values - values.sum(-1, keepdim=True) / count).masked_fill(~open_, 0.0)
        size = float((centred.square().sum(-1, keepdim=True) / count).mean().sqrt())
        self.sizes.append(size)
        return min(1.0, self.allowed / max(size, 1e-9))


class _Reader(nn.Module):
    """Attention over eight numbers, and what it says of them."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.enter, self.mix, self.leave = nn.Linear(2, 32), nn.Linear(32, 96), nn.Linear(32, 3)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        places = torch.linspace(-1, 1, 8).expand(len(x), 8)
        hidden = self.enter(torch.stack([x, places], 2))
        q, k, v = self.mix(hidden).chunk(3, -1)
        weights = (q @ k.transpose(1, 2) * self.factor).softmax(-1)
        return self.leave((hidden + weights @ v).relu().mean(1))


def demo(run: Demo) -> None:
    """Scores are multiplied by what they are to be divided by, and more."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    model = _Reader(300.0 if run.faulty else 32**-0.5)
    x, _ = run.classes(1024)
    kinds = (x.amax(1) > 1.6).long() + (x[:, 0] > x[:, 1:].mean(1)).long()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches((x, kinds), 6))
