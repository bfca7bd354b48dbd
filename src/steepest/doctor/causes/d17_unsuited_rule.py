"""Plain descent, where only a rate for each parameter gets anywhere."""

import torch
from torch import nn

from steepest.doctor.cause import Found, cause
from steepest.doctor.causes.d01_rate_too_high import LOWER
from steepest.doctor.causes.d03_rate_too_low import FACTORS
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import FORK, Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better, knows
from steepest.doctor.twin import Twin

BY, SHARE = 0.15, 0.6
"""What Adam has to gain beyond the run, and the part of it that no rate of the run's own rule may gain."""


def _adam(twin: Twin) -> None:
    groups = [{"params": group["params"]} for group in twin.optimizer.param_groups]
    twin.optimizer = torch.optim.Adam(groups, lr=1e-3)


ADAM = [Change(f"Adam at {rate:g}", prepare=_adam, settings={"lr": rate}) for rate in (1e-3, 1e-2)]


@cause("D17", "unsuited-rule", fix="Use AdamW, or another rule with a rate for each parameter.", weight=1.75,
       masks="D02 D03 C03")  # fmt: skip
def needs_adam(lab: Lab) -> Found | None:
    """The loss falls slowly at the best rate there is.

    Adam gets much further over the same batches, and no other rate of the present rule does.
    """
    if (
        lab.event is not None
        or lab.now < FORK
        or not lab.sick
        or knows(lab)
        or any(getattr(module, "sparse", False) for module in lab.model.modules())
        or any("betas" in group for group in lab.optimizer.param_groups)
    ):
        return None
    gains = [each for each in (better(lab, change, BY) for change in ADAM) if each is not None]
    if not gains:
        return None
    best = min(gains, key=lambda each: each.changed)
    own = [better(lab, Change(f"rate x {factor:g}", rate=factor), 0.0) for factor in FACTORS]
    own.append(better(lab, LOWER[0], 0.0))
    if any(each.run - each.changed > SHARE * (best.run - best.changed) for each in own if each is not None):
        return None
    summary = (
        f"{type(lab.optimizer).__name__} does not suit this model: Adam is at {best.changed:.3g} after {best.steps} "
        f"steps, and neither more nor less of the present rate gets near that."
    )
    return Found(summary, best.evidence, proven=True)


def demo(run: Demo) -> None:
    """Embeddings of words that come rarely hardly move under plain descent."""
    words, draw = 400, torch.Generator().manual_seed(5)
    x = torch.multinomial(1 / torch.arange(1.0, words + 1), 512 * 6, replacement=True, generator=draw).view(512, 6)
    y = torch.randn(words, 3, generator=draw)[x].sum(1).argmax(1)
    model = nn.Sequential(nn.EmbeddingBag(words, 16), nn.Linear(16, 3))
    rule = torch.optim.SGD(model.parameters(), lr=0.5) if run.faulty else torch.optim.Adam(model.parameters(), lr=0.01)
    train(run, model, rule, entropy, run.batches((x, y)))
