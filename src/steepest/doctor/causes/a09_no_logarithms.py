"""A loss of log-probabilities, or of probabilities, that is given what is neither."""

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import VIEWS, Anatomy, anatomy
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, train
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Call
from steepest.doctor.vary import asked, noise

NEAR = 1e-2
"""By so much the logarithm of a sum of probabilities may miss zero."""

LINEAR = {"linear", "addmm", "mm", "matmul", "__matmul__", "bmm", "baddbmm", "conv1d", "conv2d", "conv3d", "bilinear"}
"""Functions that give numbers of both signs."""

SIZES = (1.0, 3.0, 30.0)
"""Of the random numbers that a model is given in the place of its inputs."""

OUTSIDE = 0.1
"""Part of what is clamped to the range of probabilities that was outside of it."""


@cause(
    "A09",
    "no-log-probabilities",
    fix="Give the loss log_softmax of the logits, or use the loss that takes logits.",
    when=STEP,
    weight=EXACT,
    masks="A08 A14 A18 B C D E",
)
def no_log_probabilities(lab: Lab) -> Found | None:
    """The loss is negative and falls without end, or hardly falls.

    NLL or KL is given numbers whose exponentials do not add up to one; or logits are clamped to the range of
    probabilities before their logarithm is taken; or the score of the right class itself is averaged; or a Poisson
    likelihood is given as a rate what a layer gives as it is, which is negative for some inputs.

    Log-probabilities cannot all be raised; raising all that is given by one changes the loss by one, or what is clamped
    could be anything beyond the bounds; with other inputs of the same make, the model gives rates below zero.
    """
    seen = anatomy(lab)
    if seen is None:
        return None
    for call in seen.named("nll_loss", "kl_div", "poisson_nll_loss", "gather", "log", "__getitem__"):
        if (summary := _wrong(seen, call)) is not None:
            return Found(summary, {"function": call.name}, proven=True)
    return None


def _wrong(seen: Anatomy, call: Call) -> str | None:
    if len(call.inputs) < 1 or not call.prediction.is_floating_point() or not call.prediction.requires_grad:
        return None
    if call.name == "nll_loss" and not _normalised(call.prediction, 1 if call.prediction.ndim > 1 else 0):
        return "nll_loss takes log-probabilities, and the exponentials of what it is given do not add up to one."
    if call.name == "kl_div" and len(call.inputs) > 1 and _kl(call):
        return "kl_div takes log-probabilities, and the exponentials of what it is given do not add up to one."
    if call.name == "poisson_nll_loss" and call.options.get("log_input") is False and _negative_rate(seen, call):
        return "poisson_nll_loss with log_input=False takes rates, and what it is given can be negative: logarithms."
    if call.name == "log" and _clamped_logits(seen, call):
        return "The logarithm of clamped values is taken as if they were probabilities, and most are outside of 0 to 1."
    if call.name in ("gather", "__getitem__") and _score_itself(seen, call):
        return "The score of the right class is averaged as if it were a log-probability."
    return None


def _normalised(given: Tensor, axis: int) -> bool:
    sums = given.detach().double().logsumexp(axis)
    return bool((sums.abs() < NEAR).float().mean() > 0.5) or not bool(sums.isfinite().all())


def _kl(call: Call) -> bool:
    """Return whether the target adds up to one along an axis, and the exponentials of the prediction do not."""
    target = call.target.detach().double()
    target = target.exp() if call.options.get("log_target") else target
    if target.shape != call.prediction.shape:
        return False
    axes = [axis for axis in range(target.ndim) if bool(((target.sum(axis) - 1).abs() < NEAR).all())]
    return bool(axes) and not any(_normalised(call.prediction, axis) for axis in axes)


def _clamped_logits(seen: Anatomy, call: Call) -> bool:
    """Return whether what a logarithm is taken of was clamped into (0, 1], and much of it was outside."""
    made = seen.direct(call.prediction)
    if made is None or made.name not in ("clamp", "clip", "clamp_min", "clamp_"):
        return False
    before, after = made.inputs[0].detach(), call.prediction.detach()
    if float(after.min()) < 0 or float(after.max()) > 1 or before.shape != after.shape:
        return False
    outside = ((before < 0) | (before > 1)).float().mean()
    return float(outside) > OUTSIDE and bool((before < -1e-3).any())


def _negative_rate(seen: Anatomy, call: Call) -> bool:
    """Return whether a rate is what a linear layer gives, and the model gives negative ones for some inputs."""
    made = seen.direct(call.prediction)
    while made is not None and made.name in VIEWS and "clamp" not in made.name and made.inputs:
        made = seen.direct(made.inputs[0])
    if made is None or made.name not in LINEAR:
        return False
    if bool((call.prediction.detach() < 0).any()):
        return True
    own = [place for place, each in enumerate(seen.outputs) if each.data_ptr() == call.prediction.data_ptr()]
    try:
        given = [asked(seen, lambda each, size=size: noise(each, size)) for size in SIZES]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return any(bool((outputs[place] < 0).any()) for outputs in given for place in own)


def _score_itself(seen: Anatomy, call: Call) -> bool:
    """Return whether one score a row is picked of outputs that are not normalised, and the loss falls as each rises."""
    scores, picked = call.prediction, call.output
    if not isinstance(picked, Tensor) or scores.ndim != 2 or picked.numel() != len(scores) or scores.shape[1] < 2:
        return False
    if not any(scores is each for each in seen.outputs) or _normalised(scores, 1) or bool((scores >= 0).all()):
        return False
    if sum(any(each is scores for each in other.inputs) for other in seen.seen.calls) > 1:
        return False
    gradient = seen.gradients([scores])[0]
    if gradient is None:
        return False
    rows = gradient.sum(1)
    return (
        bool((gradient <= 0).all()) and bool((rows < 0).all()) and float(rows.std()) < 1e-3 * float(rows.abs().mean())
    )


def demo(run: Demo) -> None:
    """NLLLoss of logits."""
    model = run.network()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        return nn.functional.nll_loss(logits if run.faulty else logits.log_softmax(-1), batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes()))
