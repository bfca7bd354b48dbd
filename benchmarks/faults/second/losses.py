"""The losses of this part, and measures that need more than a loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.second import sources
from faults.second.sources import Columns, drawn


def of(loss: Callable[[nn.Module, Any], Tensor], batch: Callable[[], Any]) -> Callable[[nn.Module], float]:
    """Return a measure: the loss of other data, in evaluation mode, with the same luck each time."""

    def measure(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(499)
            return float(loss(model, batch()))

    return measure


def answered(model: nn.Module, batch: Columns) -> Tensor:
    """Return the cross-entropy of the card that was asked for."""
    return F.cross_entropy(model(batch), batch["answer"])


def outlined(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return cross-entropy and Dice loss of masks."""
    told, mask = model(batch[0]), batch[1]
    share = told.sigmoid()
    dice = 1 - (2 * (share * mask).sum((1, 2, 3)) + 1) / ((share + mask).sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(told, mask) + dice.mean()


def before(target: Tensor) -> Tensor:
    """Return what is heard when the target is said: a start, and all but its last letter."""
    return F.pad(target[:, :-1], (1, 0), value=8)


def ordered(model: nn.Module, batch: Columns) -> Tensor:
    """Return the cross-entropy of letters, each given the true ones before it."""
    told = model(batch["source"], before(batch["target"]))
    return F.cross_entropy(told.transpose(1, 2), batch["target"])


def continued(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Return the squared error of the next values."""
    (wave,) = batch
    return F.mse_loss(model(wave[:, :-1])[:, 4:], wave[:, 5:])


def bound(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the squared error of energies."""
    kind, edges, owner, energy = batch
    return F.mse_loss(model(kind, edges, owner), energy)


def denoised(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Return the squared error of the noise that was added, at levels that are drawn anew."""
    (x,) = batch
    level = (torch.rand(len(x), 1) * 3 - 3).exp()
    noise = torch.randn_like(x)
    return (model(x + level * noise, level) - noise).square().mean()


def apart(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the triplet loss."""
    one, alike, other = (model(each) for each in batch)
    return F.triplet_margin_loss(one, alike, other, margin=0.6)


@torch.no_grad()
def confused(model: nn.Module) -> float:
    """Return the share of new triplets whose other hand is nearer."""
    model.eval()
    curves, hand = sources.strokes(400, 451)
    draw = drawn(452)
    same = hand[:, None] == hand
    alike, other = (
        torch.multinomial(each.float(), 4, generator=draw) for each in (same & ~torch.eye(400).bool(), ~same)
    )
    said = model(curves)
    near, far = ((said[:, None] - said[each]).norm(dim=-1) for each in (alike, other))
    return float((~(near < far)).float().mean())


def above(grade: Tensor) -> Tensor:
    """Return whether a grade is above each of four thresholds (rows, 4)."""
    return (grade.unsqueeze(1) > torch.arange(4)).float()


def graded(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy of the four questions."""
    return F.binary_cross_entropy_with_logits(model(batch[0]), above(batch[1]))


def ranked(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return Cox's loss: of those who are still there, who goes first."""
    x, time, seen = batch
    order = time.argsort(descending=True)
    risk = model(x).squeeze(1)[order]
    return -((risk - risk.logcumsumexp(0)) * seen[order]).sum() / seen.sum().clamp(min=1)


def three(told: dict[str, Tensor], batch: Columns) -> Tensor:
    """Return the losses of the three heads."""
    return torch.stack([
        F.binary_cross_entropy_with_logits(told["buy"].squeeze(1), batch["bought"]),
        F.mse_loss(told["spend"].squeeze(1), batch["spent"]),
        F.cross_entropy(told["taste"], batch["taste"]),
    ])  # fmt: skip


def shopped(model: Any, batch: Columns) -> Tensor:
    """Return the three losses, each weighed by a spread that is learned."""
    losses = three(model(batch["page"], batch["number"]), batch)
    return ((-model.spread).exp() * losses + 0.5 * model.spread).sum()


def plainly(model: nn.Module, batch: Columns) -> Tensor:
    """Return the sum of the three losses."""
    return three(model(batch["page"], batch["number"]), batch).sum()


LEVELS = torch.tensor([0.1, 0.5, 0.9])


def pinball(told: Tensor, true: Tensor) -> Tensor:
    """Return the loss of quantiles (rows, 3) for numbers (rows, 1)."""
    gap = true - told
    return torch.maximum(LEVELS * gap, (LEVELS - 1) * gap).mean()


def foretold(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the pinball loss."""
    shop, day, number, sold = batch
    return pinball(model(shop, day, number), sold)


def chosen(model: nn.Module, batch: Columns) -> Tensor:
    """Return what a policy would have gained, by the chances of the logged one; negative, for it is to be large."""
    share = model(batch["context"]).softmax(-1).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
    return -(share / batch["chance"] * batch["reward"]).mean()


@torch.no_grad()
def forgone(model: nn.Module) -> float:
    """Return how much less a policy gains than the best one would."""
    model.eval()
    context = sources.clicks(600, 453)["context"]
    pay = sources.pay(context)
    return float((pay.max(1).values - (model(context).softmax(-1) * pay).sum(1)).mean())


def classed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy."""
    return F.cross_entropy(model(batch[0]), batch[1])


def near(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(model(batch[0]), batch[1])


def near_row(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the same, of a model that says columns where targets are rows."""
    return F.mse_loss(model(batch[0]).squeeze(1), batch[1])


def claimed(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the Poisson loss of a rate times a span."""
    x, span, count = batch
    log = model(x).squeeze(1) + span.log()
    return F.poisson_nll_loss(log, count)


def filed(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy of whose lines they are."""
    words, starts, kind = batch
    return F.cross_entropy(model(words, starts), kind)
