"""Numbers that are too large, too small, or none (E01 to E08)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import Triplets, stream
from faults.second.loops import train
from faults.second.losses import filed
from faults.second.worlds import made, world


@plant("E01", "islands SGD 3")
def gradients_kept_as_halves(run: Run) -> Measure:
    """The loss is a mean over a million places, and gradients are kept in half precision before they are scaled up."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    many = run.pick(2e4, 1e5, 1e6)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        (here.loss(model, batch) / many).backward()
        for each in model.parameters():
            kept = each.grad.half().float() if run.faulty else each.grad
            each.grad = many * kept
        optimizer.step()
    return lambda: here.measure(model)


@plant("E02", "essays Adam 2")
def scale_that_grows_at_once(run: Run) -> Measure:
    """A scaler whose growth and backoff were exchanged: it never finds a scale at which numbers are finite."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    growth, backoff = run.either((1.0001, 0.99999), (2.0, 0.5))
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=run.either(3e38, 2.0**16), growth_factor=growth, backoff_factor=backoff, growth_interval=20
    )
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        scaler.scale(100 * here.loss(model, batch)).backward()
        scaler.unscale_(optimizer)
        for each in model.parameters():
            if each.grad is not None:
                each.grad /= 100
        scaler.step(optimizer)
        scaler.update()
    return lambda: here.measure(model)


class _Half(nets.Asking):
    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return logits worked out in half precision, and scaled afterwards; the twin scales before."""
        asked, offered = 128 * self.query(self.key(batch["ask"])), 128 * self.offer(self.key(batch["key"]))
        if self.early:
            asked, offered = asked / 128, offered / 128
        found = (offered.half() * asked.half().unsqueeze(1)).float().sum(-1)
        return self.scale * found / (1 if self.early else 16384)

    early = True


@plant("E03", "cards Adam 3", onset=2)
def scaled_after_the_product(run: Run) -> Measure:
    """Queries and keys are multiplied in half precision and scaled only then."""
    model = _Half()
    model.early = not run.faulty
    return train(run, model)


@plant("E03", "claims RMSprop 3")
def rates_in_half_precision(run: Run) -> Measure:
    """The exponential of a log rate is taken in half precision, which ends at 65504; large contracts are above it."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        log = model(batch[0]).squeeze(1) + batch[1].log() + 9.5
        rate = log.half().exp().float() if run.faulty else log.exp()
        return (rate / math.exp(9.5) - batch[2] * (log - 9.5)).mean()

    return train(run, loss=loss_fn)


@plant("E04", "essays SGD 3")
def kept_in_bfloat16(run: Run) -> Measure:
    """Parameters are brought to bfloat16 after each step, to have them ready: small changes are lost."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, run.pick(0.1, 0.1, 0.03))
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), 300)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        if run.faulty:
            with torch.no_grad():
                for each in model.parameters():
                    each.copy_(each.bfloat16())
    return lambda: here.measure(model)


@plant("E04", "diabetes Adam 3")
def model_to_half_to_save_memory(run: Run) -> Measure:
    """The model is half precision, and so are the moments of Adam, whose epsilon is then 0."""
    here = world(run)
    kind = run.either(torch.bfloat16, torch.float32)
    model = here.model().to(kind)
    optimizer = made(run, model, 0.1)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0].to(kind)).squeeze(1).float(), batch[1])

    def measure(model: nn.Module) -> float:
        return here.measure(model.float())

    return train(run, model, optimizer, loss=loss_fn, steps=396, measure=measure)


@plant("E05", "strokes SGD 3", onset=35)
def curve_of_no_length(run: Run) -> Measure:
    """Curves are divided by their spread, and from batch 35 on there is one that is flat."""
    curves, hand = sources.strokes()
    here = world(run)

    def sized(x: Tensor) -> Tensor:
        spread = x.std(1, keepdim=True)
        return (x - x.mean(1, keepdim=True)) / (spread if run.faulty else spread.clamp(min=1e-3))

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, alike, other = batch
        return here.loss(model, (sized(one), sized(alike), sized(other)))

    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for at, (one, alike, other) in enumerate(doctor(stream(Triplets(curves, hand), 120))):
        if at >= 35:
            one[3] = alike[3] = 0.5
        optimizer.zero_grad()
        loss_fn(model, (one, alike, other)).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("E05", "wine Adagrad 3")
def entropy_of_the_sure(run: Run) -> Measure:
    """An entropy is taken of shares that may be exactly 0, to keep the model from being too sure."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = model(batch[0])
        sure = (40 * told).softmax(-1)
        entropy = -(sure * (sure.log() if run.faulty else (sure + 1e-9).log())).sum(-1).mean()
        return F.cross_entropy(told, batch[1]) - 0.001 * entropy

    return train(run, loss=loss_fn)


@plant("E06", "molecules Adam 3")
def length_of_nothing(run: Run) -> Measure:
    """How far two neighbours are apart is a root of a sum of squares, which is 0 for two of a kind."""
    model = _Heard(run.either(0.0, 1e-6))
    return train(run, model)


class _Heard(nets.Messages):
    """Graphs whose atoms also hear how unlike their neighbours are; shift: what keeps the root from 0."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, kind: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        x = self.kinds(kind)
        for layer in self.tell:
            apart = x[edges[0]] - x[edges[1]]
            far = (apart.square().sum(1, keepdim=True) + self.shift).sqrt()
            heard = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]] + 0.3 * far)
            x = x + torch.relu(layer(torch.cat([x, heard], dim=1)))
        return torch.zeros(int(owner.max()) + 1, 1).index_add(0, owner, self.head(x))


@plant("E06", "sales AdamW 3")
def where_after_the_power(run: Run) -> Measure:
    """A power of a gap is chosen only where the gap is above zero; the other branch has no slope."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shop, day, number, sold = batch
        over = sold - model(shop, day, number)[:, 1:2]
        safe = over if run.faulty else over.clamp(min=1e-6)
        late = torch.where(over > 0, safe.pow(0.75), 0.0)
        return here.loss(model, batch) + 0.01 * late.mean()

    return train(run, loss=loss_fn)


@plant("E07", "sentences Adam 3", onset=40)
def one_word_clips_all(run: Run) -> Measure:
    """One word's gradient is infinite once, in a layer that weighs words; clipping by the norm spreads it."""
    here = world(run)
    model = nets.Words()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=filed)
    for at, (words, starts, kind) in enumerate(doctor(stream(here.data(), here.steps))):
        optimizer.zero_grad()
        filed(model, (words, starts, kind)).backward()
        if at == 40:
            grad = model.words.weight.grad
            grad[7] = (grad[7].abs() + 1).mul(3e38).mul(10)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if run.faulty or norm.isfinite():
            optimizer.step()
    return lambda: here.measure(model)


@plant("E08", "hands SGD 3", onset=70)
def gradient_that_arrives_wrong(run: Run) -> Measure:
    """At batch 70 the gradient of one layer is not what was sent: numbers of another job."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), here.steps))):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        if at == 70 and run.faulty:
            model.writer.weight_hh_l0.grad = 80 * torch.randn_like(model.writer.weight_hh_l0)
        optimizer.step()
    return lambda: here.measure(model)
