"""A softmax or a sigmoid before a loss that takes logits."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steepest.doctor.anatomy import Anatomy, anatomy
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.spy import Call

OF_LOGITS = ("cross_entropy", "log_softmax", "binary_cross_entropy_with_logits", "logsigmoid")
"""Functions that take logits."""

SQUASHING = ("softmax", "sigmoid", "softmin")

FLOOR = 0.05
"""What a perfect prediction loses at the least, for it to be no matter of rounding (nats)."""


@cause(
    "A08",
    "squashed-twice",
    fix="Give the loss what comes before the softmax or the sigmoid.",
    when=STEP,
    weight=EXACT,
    masks="B C D",
)
def squashed_twice(lab: Lab) -> Found | None:
    """Training is slow, and the loss stays above a floor.

    What a function of logits is given comes from a softmax or a sigmoid, or is never negative and adds up to one.

    Even a perfect prediction, in place of what the model says, is told to be wrong by that much; logits are not.
    """
    seen = anatomy(lab)
    if seen is None:
        return None
    for call in seen.named(*OF_LOGITS):
        squashed = _squashed(seen, call) if call.inputs else ""
        floor = _floor(call) if squashed else 0.0
        if floor > FLOOR:
            summary = (
                f"{call.name} takes logits and is given what a {squashed} gives: it loses {floor:.2g} at the least."
            )
            evidence = {"floor": floor, "given": squashed, "function": call.name}
            return Found(summary, evidence, proven=True, cure=Change("logits given to the loss", inside=_Logits))
    return None


class _Logits(TorchFunctionMode):
    """Gives functions of logits the logits of what they are given, where that is a share."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = args[0] if args and isinstance(args[0], Tensor) and args[0].is_floating_point() else None
        name = getattr(func, "__name__", "")
        if name in OF_LOGITS and given is not None and bool(((given >= 0) & (given <= 1)).all()):
            shares = given.clamp(1e-7, 1 - 1e-7)
            logits = shares.log() if name in ("cross_entropy", "log_softmax") else shares.logit()
            args = (logits, *args[1:])
        return func(*args, **(kwargs or {}))


def _squashed(seen: Anatomy, call: Call) -> str:
    """Return the function that what is given comes from, if it squashes."""
    given = call.prediction
    if not given.is_floating_point() or not given.requires_grad:
        return ""
    made = seen.producer(given)
    if made is not None and made.name in SQUASHING and not float(given.detach().max()) > 1:
        return made.name
    axis = call.options.get("dim") if call.name == "log_softmax" else None
    axis = axis if isinstance(axis, int) else (1 if given.ndim > 1 and call.name == "cross_entropy" else -1)
    if call.name not in ("cross_entropy", "log_softmax") or given.ndim == 0 or given.shape[axis] < 2:
        return ""
    sums = given.detach().float().sum(axis)
    return "softmax" if bool((given >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all()) else ""


def _floor(call: Call) -> float:
    """Return what is lost by a perfect prediction from 0 to 1, beyond what is lost by one in logits."""
    given = call.prediction.detach().float()
    classes = given.shape[1 if given.ndim > 1 else -1]
    if call.name == "log_softmax":
        return float(torch.tensor([1.0] + [0.0] * (given.shape[-1] - 1)).log_softmax(0)[0].neg())
    if call.name == "logsigmoid":
        return float(-nn.functional.logsigmoid(torch.ones(())))
    target = call.target.detach()
    if call.name == "cross_entropy" and not target.is_floating_point():
        perfect = nn.functional.one_hot(target.clamp(0, classes - 1), classes).movedim(-1, 1 if given.ndim > 1 else -1)
    else:
        perfect = target
    if perfect.shape != given.shape:
        return 0.0
    options = {**call.options, "reduction": "mean"}
    best = _value(call, perfect.float(), options)
    return best - min(_value(call, (perfect.float() - 0.5) * scale, options) for scale in (2.0, 4.0, 8.0, 16.0, 32.0))


def _value(call: Call, prediction: Tensor, options: dict) -> float:
    return float(call.function(prediction, call.target.detach(), **{k: v for k, v in options.items() if v is not None}))


def demo(run: Demo) -> None:
    """A model that ends in a softmax, and cross-entropy."""
    model = run.network()
    if run.faulty:
        model.append(nn.Softmax(dim=-1))
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1), entropy, run.batches(run.classes()))
