"""Gradients are too small for half precision."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.precision import IN_SINGLE
from steepest.doctor.replay import Change
from steepest.doctor.spy import Spy
from steepest.doctor.twin import Twin

GRID = 2.0**-24
"""The smallest number of float16: below 2^-14 there are only multiples of it."""

LOST = 0.3
"""Share of a tensor's gradient that is lost."""


@cause(
    "E01",
    "half-precision-underflows",
    fix="Scale the loss (torch.amp.GradScaler), or use bfloat16, which holds numbers as small as float32 does.",
    when=STEP,
    weight=EXACT,
    masks="C D E04",
)
def half_underflows(lab: Lab) -> Found | None:
    """The first layers do not learn, in half precision without a scaler.

    Of a gradient all small entries are multiples of the smallest number of float16, and many are 0; computed anew in
    single precision they are not.
    """
    if lab.update is None or lab.loss is None or lab.update.step < 1 or not lab.update.backwards or lab.update.closure:
        return None
    if not any(bool(each.grad.any()) for each in lab.stepped() if each.grad is not None) or not lab.passes(1):
        return None
    own = [each for each in lab.stepped() if id(each) in lab.names]
    suspects = [each for each in own if _on_grid(each.grad) or (_empty(each.grad) and _halves(lab))]
    if not suspects or lab.start is None:
        return None
    wide = _in_single(lab, [lab.names[id(each)] for each in suspects])
    lost, total, worst = 0, 0, ""
    for each in suspects:
        name, used = lab.names[id(each)], each.grad
        if name not in wide or used is None:
            continue
        gone = int(((used == 0) & (wide[name] != 0)).sum())
        worst = name if gone > LOST * max(1, int((wide[name] != 0).sum())) and not worst else worst
        lost, total = lost + gone, total + int((wide[name] != 0).sum())
    if not worst or lost < LOST * max(1, total) or total < 20:
        return None
    summary = f"{lost / total:.0%} of the gradient of {worst} and others is lost: too small for float16, it became 0."
    return Found(summary, {"lost": lost / total, "of": total, "first tensor": worst}, True, 0)


def _on_grid(gradient: Tensor | None) -> bool:
    """Return whether small numbers, of which there are some, are as float16 has them."""
    if gradient is None or gradient.is_sparse or gradient.dtype == torch.bfloat16 or gradient.numel() < 8:
        return False
    values = gradient.detach().double()
    small = values[(values != 0) & (values.abs() < 2.0**-14)] / GRID
    zeros = float((values == 0).double().mean())
    return zeros > 0.2 and len(small) > 0 and bool((small == small.round()).all())


def _halves(lab: Lab) -> bool:
    """Return whether half precision is made anywhere on the way to the loss and back; asked once."""
    if "halves" not in lab.notes:
        model, of = lab.twin(), lab.passes(1)[0]
        own = [each for each in model.parameters() if each.requires_grad]
        with Spy() as spy:
            torch.autograd.grad(lab.ask(model, of), own, allow_unused=True)
        made = [each.output for each in spy.seen.calls if isinstance(each.output, Tensor)]
        lab.notes["halves"] = of.autocast == torch.float16 or any(each.dtype == torch.float16 for each in made)
    return lab.notes["halves"]


def _empty(gradient: Tensor | None) -> bool:
    return gradient is not None and not gradient.is_sparse and float((gradient == 0).double().mean()) > 0.2


def _in_single(lab: Lab, names: list[str]) -> dict[str, Tensor]:
    """Return the gradients of the update's batches with all in single precision."""
    assert lab.update is not None
    assert IN_SINGLE.batch is not None
    model = lab.twin()
    IN_SINGLE.prepare(Twin(model, torch.optim.SGD(model.parameters(), lr=0.1), 0))
    total: dict[str, Tensor] = {}
    own = dict(model.named_parameters())
    with IN_SINGLE.inside():
        for backward in lab.update.backwards:
            value = lab.ask(model, backward.of, IN_SINGLE.batch(backward.of.batch))
            found = torch.autograd.grad(value, [own[name] for name in names], allow_unused=True)
            for name, each in zip(names, found, strict=True):
                if each is not None:
                    total[name] = total.get(name, torch.zeros_like(each)) + each
    return total


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Compute all in single precision."""
    return [IN_SINGLE]


def demo(run: Demo) -> None:
    """The first layers run in float16, and the loss is a mean over very many terms."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        layers = list(model.children())
        hidden = nn.Sequential(*layers[:3])(batch[0])
        hidden = hidden.half().float() if run.faulty else hidden
        return nn.functional.cross_entropy(nn.Sequential(*layers[3:])(hidden), batch[1]) / 100_000

    model = run.network()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2, eps=1e-20), loss, run.batches(run.classes()))
