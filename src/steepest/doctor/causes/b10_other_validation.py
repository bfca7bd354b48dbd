"""What the model is evaluated on is prepared in another way than what it is trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, STATISTIC, Found, cause
from steepest.doctor.data import axis_of, flat
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab

RATIO, SHIFT, PATTERN = 3.0, 1.5, 1.0
"""Ratio of deviations, distance of means in deviations, and root mean square of columns' distances, as limits."""

WORSE = 1.5
"""Training rows that are changed in the same way have so many times the loss, where it hurts."""


@cause(
    "B10",
    "validation-prepared-otherwise",
    fix="Prepare validation data by the same code and with the same numbers as training data.",
    when=MARK,
    weight=REPLAYED,
    masks="A17 C07 C08 D20",
)
def other_validation(lab: Lab) -> Found | None:
    """The validation loss is bad from the start, and the training loss is good.

    What the model is given without gradients has another mean or deviation than what it is given in training, by far
    more than batches of the training data differ. Training rows that are moved and stretched likewise have a much
    higher loss.
    """
    if lab.tap.looked_at is None or lab.loss is None or lab.now < 15 or lab.event is not None:
        return None
    asked = next((each for each in tensors(list(lab.tap.looked_at)) if each.is_floating_point() and each.ndim), None)
    trained = _given(lab)
    if asked is None or len(trained) < 5 or len(asked) < 8:
        return None
    axis = axis_of(lab.model, asked)
    own, other = torch.cat([flat(each, axis) for each in trained]).double(), flat(asked.detach(), axis).double()
    if own.shape[1:] != other.shape[1:] or not bool(other.isfinite().all()):
        return None
    told = _unlike(own, other) or _pattern(trained, asked)
    if told is None:
        return None
    losses = _moved(lab, own, other, axis)
    worse = losses is not None and losses[1] > WORSE * losses[0] and losses[1] - losses[0] > 0.1 * (lab.scale or 0.0)
    if losses is None or not worse:
        return None
    summary = (
        f"What the model is evaluated on is unlike what it is trained on: {told}; training rows changed likewise have "
        f"a loss of {losses[1]:.3g} where it is {losses[0]:.3g}."
    )
    evidence = {"loss": losses[0], "loss changed likewise": losses[1]}
    return Found(summary, evidence, True, weight=REPLAYED if lab.tap.looked_at else STATISTIC)


def _given(lab: Lab) -> list[Tensor]:
    """Return the first floats that the model is given, for several batches."""
    found: list[Tensor] = []
    model = lab.twin()
    handle = model.register_forward_pre_hook(_noting(found))
    for of in lab.passes(12):
        lab.ask(model, of)
    handle.remove()
    return [each for each in found if each.shape[1:] == found[0].shape[1:]]


def _noting(found: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.extend(each.detach() for each in list(tensors(inputs))[:1] if each.is_floating_point() and each.ndim)

    return note


def _unlike(own: Tensor, other: Tensor) -> str | None:
    """Compare means and deviations of columns, of those that vary."""
    real = own.std(0) > 1e-6 * own.std(0).max()
    if not bool(real.any()):
        return None
    spread, stretched = own.std(0)[real], other.std(0, correction=0)[real]
    typical = spread.median()
    ratio = float((stretched.mean() / spread.mean()).clamp(1e-9, 1e9))
    shift = float(((other.mean(0) - own.mean(0))[real] / spread.clamp(min=0.2 * typical)).abs().median())
    if len(other) < 30 and shift < SHIFT:
        return None
    if not 1 / RATIO < ratio < RATIO:
        return f"deviations {ratio:.2g} times as large"
    return f"means {shift:.2g} deviations away" if shift > SHIFT else None


def _pattern(trained: list[Tensor], asked: Tensor) -> str | None:
    """Compare the mean of each place, such as each pixel, as far as batches of training rows agree on it."""
    rows = torch.cat([each.reshape(len(each), -1) for each in trained]).double()
    other = asked.detach().reshape(len(asked), -1).double()
    if rows.shape[1] != other.shape[1] or len(other) < 30 or rows.shape[1] < 8:
        return None
    spread = rows.std(0)
    real = spread > 0.05 * spread.max()
    off = (((other.mean(0) - rows.mean(0)) / spread)[real]).square().mean().sqrt()
    return f"means of single places {float(off):.2g} deviations away" if float(off) > PATTERN else None


def _moved(lab: Lab, own: Tensor, other: Tensor, axis: int) -> tuple[float, float] | None:
    """Return the loss of training batches, and with columns moved and stretched to those that are evaluated on."""
    spread = own.std(0).clamp(min=1e-9)
    scale, shift = (other.std(0, correction=0) / spread).clamp(max=1e3), other.mean(0)

    def change(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        value = inputs[0]
        moved = (value.movedim(axis, -1) - own.mean(0).to(value)) * scale.to(value) + shift.to(value)
        return (moved.movedim(-1, axis), *inputs[1:])

    losses = []
    for hooked in (False, True):
        model = lab.twin()
        model.eval()
        if hooked:
            model.register_forward_pre_hook(change)
        losses.append(sum(float(lab.ask(model, of).detach()) for of in lab.passes(6)))
    return losses[0] / 6, losses[1] / 6


def demo(run: Demo) -> None:
    """Only the training rows are standardised."""
    model = run.network()
    x, kinds = run.classes()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    doctor = run.watch(model, optimizer, entropy)
    for _ in range(6):
        model.train()
        for batch in doctor(run.batches((x[:400], kinds[:400]), 1)):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            entropy(model, (x[400:] * 10 + 20 if run.faulty else x[400:], kinds[400:]))
