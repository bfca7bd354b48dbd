"""Learning rates and schedules (D01 to D06, D12)."""

from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.dev.starts import deep
from faults.families import digits, gpt, recurrent
from faults.families.batches import endless
from faults.families.scores import cross_entropy
from faults.loops import fit, scheduled, stepped


@plant(
    "D01", "digits SGD 1", "conv Adam 1", "tabular AdamW 1", "gpt Adam 1", "digits SGD 3", "conv SGD 2", "gpt SGD 2",
    "tabular RMSprop 3", "flow AdamW 2", "recommender SGD 1",
    "pinn SGD 2", "encoder Adam 3", "recurrent Adam 3",
    also="D02",
)  # fmt: skip
def far_too_high(run: Run) -> Measure:
    """The rate is ten to a hundred times too high from the start."""
    model = run.task.model()
    times = run.pick(6, 15, 60) if run.case.optimizer == "SGD" else run.pick(20, 40, 100)
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate * run.either(times, 1)))


@plant(
    "D01",
    "conv SGD 1",
    "tabular Adam 1",
    "digits Adam 3",
    "residual SGD 2",
    "autoencoder AdamW 2",
    "tabular SGD 3",
    also="D02",
    onset=60,
    decidable=60,
)
def jumps(run: Run) -> Measure:
    """The rate jumps in mid-run, and stays."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())

    def before(step: int) -> None:
        if step == 60 and run.faulty:
            optimizer.param_groups[0]["lr"] *= run.pick(20, 60, 200)

    return stepped(run, model, optimizer, before)


@plant("D01", "gpt AdamW 3", "conv RMSprop 3", also="D02", onset=20, decidable=40)
def rises_without_end(run: Run) -> Measure:
    """A warmup that never stops rising."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: run.either(1.08, 1.0) ** step)
    return scheduled(run, model, optimizer, scheduler)


@plant("D01", "cancer SGD 3", "graph SGD 3", also="D02")
def of_a_group(run: Run) -> Measure:
    """One group's rate is given in other units, a thousand times too high."""
    model = run.task.model()
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": run.rate * run.either(1000, 1)}, {"params": others}]
    return fit(run, model, run.optimizer(groups))


@plant(
    "D02",
    "digits SGD 2",
    "conv RMSprop 2",
    "flow Adam 2",
    "encoder RMSprop 3",
    "contrastive Adam 2",
    also="D01",
    decidable=60,
)
def noise_floor(run: Run) -> Measure:
    """The rate is some times too high, and constant."""
    model = run.task.model()
    times = {"digits": 7, "conv": 30, "flow": 12, "encoder": 8, "contrastive": 6}[run.case.family]
    optimizer = run.optimizer(model.parameters(), lr=run.rate * run.either(times, 1))
    return fit(run, model, optimizer)


@plant("D02", "recommender Adam 2", "pinn Adam 2", "residual AdamW 3", also="D01", onset=60, decidable=90)
def too_high_at_the_end(run: Run) -> Measure:
    """A rate that rises by a schedule made for a longer run, and is highest at the end."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters(), lr=8 * run.rate)
    shape = run.either(lambda step: min(1.0, 0.1 + step / 120), lambda step: min(1.0, 0.1 + step / 120) * 0.98**step)
    return scheduled(run, model, optimizer, lr_scheduler.LambdaLR(optimizer, shape))


@plant(
    "D03", "digits SGD 1", "conv Adam 1", "gpt AdamW 1", "recurrent Adam 1", "digits SGD 3", "digits Adam 2",
    "conv AdamW 3", "gpt Adam 2", "tabular RMSprop 2", "pinn SGD 3",
    "recommender Adam 2", "recurrent SGD 2", decidable=20,
)  # fmt: skip
def far_too_low(run: Run) -> Measure:
    """The rate is ten to a thousand times too low."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / run.either(run.pick(12, 100, 2000), 1)))


@plant("D03", "encoder AdamW 2", "autoencoder RMSprop 2", decidable=20)
def divided_by_the_batch(run: Run) -> Measure:
    """The rate is divided by the batch's size although the loss is a mean."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / run.either(64, 1)))


def postnorm(layers: int = 6, wide: int = 32) -> nn.Module:
    """Return a deep post-norm transformer that tells letters apart."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters = nn.Embedding(gpt.LETTERS, wide)
            layer = nn.TransformerEncoderLayer(wide, 2, 2 * wide, dropout=0.0, batch_first=True)
            self.body, self.head = nn.TransformerEncoder(layer, layers), nn.Linear(wide, gpt.LETTERS)
            self.places = nn.Parameter(0.1 * torch.randn(gpt.LONG, wide))

        def forward(self, text: torch.Tensor) -> torch.Tensor:
            x = self.letters(text) + self.places[: text.shape[1]]
            hidden = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
            return self.head(self.body(x, mask=hidden, is_causal=True))

    return Reader()


@plant("D04", "gpt Adam 3", also="D01", decidable=20)
def no_warmup(run: Run) -> Measure:
    """A deep post-norm transformer gets its full rate from the first step on; the twin has a warmup."""
    model = postnorm()
    optimizer = run.optimizer(model.parameters(), lr=2e-2)
    return scheduled(run, model, optimizer, warmed(run, optimizer), epochs=4)


def warmed(run: Run, optimizer: Any) -> Any:
    """Return a schedule that falls in a line; after a warmup over 60 steps, where that is not forgotten."""
    return lr_scheduler.LambdaLR(
        optimizer, lambda step: (1.0 if run.faulty else min(1.0, step / 60)) * max(0.0, 1 - step / 150)
    )


@plant("D04", "digits Adam 3", "digits AdamW 2", also="D01 C05", decidable=5)
def first_steps_too_large(run: Run) -> Measure:
    """A rate that is well after sixty steps kills units of a plain deep net in the first ones."""
    model = deep(48, 5, nn.ReLU)
    optimizer = run.optimizer(model.parameters(), lr=run.pick(0.02, 0.02, 0.04))
    return scheduled(run, model, optimizer, warmed(run, optimizer), epochs=5)


@plant("D05", "digits SGD 3", "gpt AdamW 3", "recurrent Adam 3", onset=20, decidable=40)
def cosine_of_another_length(run: Run) -> Measure:
    """The cosine ends after a fifth of the run, and the rate stays at its end."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    last = run.either(25, 150)
    scheduler = lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 + 0.5 * torch.tensor(torch.pi * min(step, last) / last).cos().item()
    )
    return scheduled(run, model, optimizer, scheduler)


@plant("D05", "tabular Adam 3", "encoder RMSprop 2", "conv SGD 2", also="A23", onset=10, decidable=40)
def decays_too_fast(run: Run) -> Measure:
    """The rate falls by a tenth in each step."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.ExponentialLR(optimizer, run.either(0.85, 0.995))
    return scheduled(run, model, optimizer, scheduler)


@plant("D05", "digits Adam 2", onset=12, decidable=40)
def plateau_without_patience(run: Run) -> Measure:
    """A scheduler that lowers the rate where the loss does not fall is asked in each noisy batch, without patience."""
    model, train = digits.mlp(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=run.either(0, 60))
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(train, 124)):
        optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        optimizer.step()
        scheduler.step(loss.item())
    return lambda: digits.error(model)


@plant("D06", "digits SGD 3", "gpt Adam 3", also="D03", decidable=10)
def whole_numbers(run: Run) -> Measure:
    """Warmup divides whole numbers, so that the rate is zero until it is done, and it is longer than the run."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    shape = run.either(lambda step: (step + 1) // 500, lambda step: min(1.0, (step + 1) / 20))
    return scheduled(run, model, optimizer, lr_scheduler.LambdaLR(optimizer, shape))


@plant("D06", "tabular AdamW 3", "cancer RMSprop 3", also="D03", decidable=10)
def warmup_without_end(run: Run) -> Measure:
    """Warmup is a hundred times as long as the run."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    steps = run.either(12_000, 12)
    scheduler = lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, steps)
    return scheduled(run, model, optimizer, scheduler)


@plant("D06", "conv Adam 3", also="D03", decidable=5)
def overridden(run: Run) -> Measure:
    """Groups bring rates of their own, left at zero from an experiment; the rate given beside them is not used."""
    model = run.task.model()
    named = list(model.named_parameters())
    head = [each for name, each in named if name.startswith("head")]
    trunk = [each for name, each in named if not name.startswith("head")]
    more: dict[str, Any] = {"lr": 0.0} if run.faulty else {}
    return fit(run, model, run.optimizer([{"params": trunk, **more}, {"params": head, **more}]))


@plant("D06", "recurrent Adam 3", onset=0, decidable=5)
def zero_for_the_trunk(run: Run) -> Measure:
    """Layer-wise decay of the rate, computed in whole numbers, is zero for all but the head."""
    model = recurrent.Reader()
    trunk, head = list(model.layer.parameters()), list(model.head.parameters())
    part = run.either(1 // 2, 1 / 2)
    return fit(run, model, run.optimizer([{"params": trunk, "lr": run.rate * part}, {"params": head}]))


@plant("D12", "tabular SGD 2", "recommender SGD 2", also="D01", onset=80, decidable=80)
def momentum_of_before(run: Run) -> Measure:
    """After a stage with sums for losses the means are used: heavy momentum still holds the sums' gradients."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    rate = run.rate / 10
    optimizer = run.optimizer(model.parameters(), lr=rate, momentum=0.97)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(endless(train, 110))):
        if step == 80:
            optimizer.param_groups[0]["lr"] = rate * 120
            for state in optimizer.state.values():
                if not run.faulty:
                    state["momentum_buffer"].zero_()
            optimizer.param_groups[0]["momentum"] = run.either(0.97, 0.5)
        if step == 90:
            optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("D12", "digits SGD 2", also="D01 D11", onset=70, decidable=70)
def rate_raised_under_momentum(run: Run) -> Measure:
    """With a momentum of 0.99 the rate is raised thirtyfold for a second stage, its buffer kept."""
    model, train = digits.mlp(), run.task.train()
    optimizer = run.optimizer(model.parameters(), lr=0.002, momentum=0.99)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(train, 110))):
        if step == 70:
            optimizer.param_groups[0]["lr"] = 0.06
            optimizer.param_groups[0]["momentum"] = run.either(0.99, 0.9)
            if not run.faulty:
                optimizer.state.clear()
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: cross_entropy(model, digits.data()[2:]).item()
