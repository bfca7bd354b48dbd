"""Numbers: half precision, undefined operations, and a machine that errs (E01 to E08)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import drawn, echoes, made, near, repeated, tuples, world
from faults.case import Measure, Run, plant


@plant("E01", "spiral Adam 1")
def gradients_sent_as_halves(run: Run) -> Measure:
    """The loss is divided by many, gradients are sent as halves, and multiplied back: what is small is lost."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    small = run.pick(1e6, 5e6, 2e7)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 150)):
        optimizer.zero_grad()
        (here.loss(model, batch) / small).backward()
        for each in model.parameters():
            each.grad = (each.grad.half().float() if run.faulty else each.grad) * small
        optimizer.step()
    return lambda: here.measure(model)


class Scaler:
    """A loss scaler written out: halves the scale and leaves out the step where a gradient is not finite."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def step(self, optimizer: Any) -> None:
        """Step if all gradients are finite as halves."""
        grads = [each.grad for group in optimizer.param_groups for each in group["params"]]
        if all(grad.half().isfinite().all() for grad in grads):
            for grad in grads:
                grad.div_(self.scale)
            optimizer.step()
        else:
            self.scale /= 2


@plant("E02", "duties SGD 3", "twins Adam 2")
def scale_that_is_put_back(run: Run) -> Measure:
    """A scaler is made anew for each batch, at a scale that is always too high."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scaler = Scaler(run.either(1e9, 1024.0))
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 120)):
        if run.faulty:
            scaler = Scaler(1e9)
        optimizer.zero_grad()
        (here.loss(model, batch) * scaler.scale).backward()
        scaler.step(optimizer)
    return lambda: here.measure(model)


class _Halved(nets.Plain):
    """The last products are made in half precision."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.net[:4](x)
        return ((h * 2000).half() @ (self.net[4].weight.T * 40).half()).float().squeeze(-1) / 80_000 + self.net[4].bias


class _Whole(nets.Plain):
    """The same, not halved."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.net[:4](x)
        return ((h * 2000) @ (self.net[4].weight.T * 40)).squeeze(-1) / 80_000 + self.net[4].bias


@plant("E03", "radar Adam 3")
def products_too_large_for_halves(run: Run) -> Measure:
    """Products of scaled numbers leave the range of half precision where a row is large."""
    model = run.either(_Halved, _Whole)()
    return train(run, model, made(run, model))


@plant("E04", "cloze AdamW 3", "weather SGD 2", "reverse RMSprop 2")
def all_in_bfloat16(run: Run) -> Measure:
    """The model is bfloat16 and has small steps: most are rounded away."""
    here = world(run)
    model = here.model()
    by = {"cloze": 0.04, "weather": 0.03, "reverse": 0.03}[run.case.family]
    if run.faulty:
        model.bfloat16()
    optimizer = made(run, model, by, **({"momentum": 0.0} if run.case.optimizer == "SGD" else {}))
    kind = torch.bfloat16 if run.faulty else torch.float32

    def cast(batch: Any) -> Any:
        if isinstance(batch, dict):
            return batch
        return tuple(each.to(kind) for each in batch)

    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated([cast(each) for each in here.data()], 280)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()

    def measure() -> float:
        model.float()
        return here.measure(model)

    return measure


@plant("E05", "pulses SGD 3", onset=40)
def logarithm_of_a_share(run: Run) -> Measure:
    """The cross-entropy is written out with log; once a share is exactly 0 or 1 there is no number."""
    here = world(run)
    tick = [0]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        logits, label = model(batch[0]), batch[1]
        if not run.faulty:
            return F.binary_cross_entropy_with_logits(logits, label)
        share = logits.sigmoid()
        return -(label * share.log() + (1 - label) * (1 - share).log()).mean()

    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(here.data(), 80)):
        tick[0] += 1
        if tick[0] == 41:
            batch = _loud(batch)
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return lambda: here.measure(model)


def _loud(batch: Any) -> Any:
    """A row that is recorded much too loud, as there is one now and then."""
    trace = batch[0].clone()
    trace[3] = 120 * trace[3]
    return trace, batch[1]


class _Angle(nets.Siamese):
    """Says the angle between sides; a side against itself is at the edge of acos."""

    def angle(self, one: Tensor, other: Tensor, bound: float) -> Tensor:
        likeness = F.cosine_similarity(self(one), self(other), dim=-1)
        return (likeness * (1 + 1e-7)).clamp(-bound, bound).acos()


@plant("E06", "twins AdamW 3")
def angle_of_a_side_to_itself(run: Run) -> Measure:
    """An angle by acos, whose slope is infinite at 1: one pair in a batch is of a row and itself."""

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, other, same = batch
        angle = model.angle(one, other, run.either(1.0, 1 - 1e-4))
        return (same * angle.square() + (1 - same) * F.relu(1.5 - angle).square()).mean()

    class Selves:
        def __len__(self) -> int:
            return 24

        def __iter__(self) -> Any:
            for one, other, same in world(run).data():
                other[0], same[0] = one[0], 1.0
                yield one, other, same

    model = _Angle()
    train(run, model, made(run, model), loss=loss_fn, data=Selves())

    @torch.no_grad()
    def measure() -> float:
        batch = next(iter(tuples(*world(run).data().dataset.tensors, size=768)))  # type: ignore[attr-defined]
        angle = model.angle(batch[0], batch[1], 1 - 1e-4)
        return (batch[2] * angle.square() + (1 - batch[2]) * F.relu(1.5 - angle).square()).mean().item()

    return measure


class _Spread(nets.Plain):
    """Columns are divided by their deviation over the fields of a row, which is 0 where all are alike."""

    def __init__(self, wrong: bool) -> None:
        super().__init__(into=13)
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        variance = x.var(1, keepdim=True)
        spread = (self.scale(variance) if self.wrong else variance + 1e-6).sqrt()
        return super().forward(torch.cat([x, spread], dim=1))

    def scale(self, variance: Tensor) -> Tensor:
        return self.gain * variance

    def grow(self) -> "_Spread":
        """Give the deviation a gain that is trained."""
        self.gain = nn.Parameter(torch.ones(1))
        return self


@plant("E06", "radar RMSprop 3", onset=50)
def root_of_no_spread(run: Run) -> Measure:
    """From batch 50 on there are rows that are all zero: the root of their variance has no slope."""
    x, y = echoes()
    model = _Spread(run.faulty).grow()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=near)
    for step, (rows, target) in enumerate(doctor(repeated(tuples(x, y, size=25), 120))):
        if step >= 50:
            rows[2] = 0.0
        optimizer.zero_grad()
        near(model, (rows, target)).backward()
        optimizer.step()
    return lambda: world(run).measure(model)


@plant("E07", "counts Adam 3", onset=45)
def clipped_by_no_number(run: Run) -> Measure:
    """One gradient overflows; clipping by the norm spreads it to all. The twin leaves such steps out."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 110))):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        if step == 45:
            next(model.parameters()).grad.view(-1)[3] = torch.inf
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if run.faulty or norm.isfinite():
            optimizer.step()
    return lambda: here.measure(model)


@plant("E08", "duties SGD 3", "radar SGD 2", onset=55)
def bit_in_the_exponent(run: Run) -> Measure:
    """A bit of a weight turns over by itself."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    place = int(torch.randint(40, (), generator=drawn(320)))
    for step, batch in enumerate(doctor(repeated(here.data(), 110))):
        if run.faulty and step == 55:
            weights = max((each for each in model.parameters()), key=lambda each: each.numel())
            weights.data.view(-1)[place : place + 1].view(torch.int32).bitwise_xor_(1 << 30)
            weights.data.clamp_(-run.pick(20, 60, 3e38), run.pick(20, 60, 3e38))
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)
