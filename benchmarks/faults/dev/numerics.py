"""Numbers that overflow, underflow, round away or are not there (E)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import autoencoder, conv, digits, encoder, flow, gpt, recommender, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import fit


class Half(torch.autograd.Function):
    """Lets values through; gradients pass in half precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: D102
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: D102
        return grad.half().float()


@plant("E01", "digits SGD 3", "digits Adam 3")
def half_without_a_scaler(run: Run) -> Measure:
    """The first layers run in float16; the loss is divided by its many terms, and their gradients vanish."""
    model = digits.mlp()
    scale = run.either(1.0, 2.0**14)

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        low, high = model[:4], model[4:]
        with torch.autocast("cpu", dtype=torch.float16):
            hidden = low(batch[0])
        return F.cross_entropy(high(hidden.float()), batch[1]) * 1e-6

    small = 1e6
    optimizer = run.optimizer(model.parameters(), lr=run.rate * (small if run.case.optimizer == "SGD" else 1))
    optimizer.param_groups[0]["eps"] = 1e-20
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(Shuffled(*digits.data()[:2]), 110)):
        optimizer.zero_grad()
        (loss_fn(model, batch) * scale).backward()
        for each in model.parameters():
            each.grad.div_(scale)
        optimizer.step()
    return lambda: digits.error(model)


@plant("E01", "autoencoder RMSprop 2", "tabular SGD 3")
def half_at_the_bottleneck(run: Run) -> Measure:
    """Gradients are sent between two parts of a model in half precision, far below what it can hold."""
    model = run.task.model()
    factor = run.either(1e-9, 1.0)
    front, rest = (model[:2], model[2:]) if run.case.family == "tabular" else (model.encoder, None)

    def loss_fn(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        if rest is not None:
            told = rest(Half.apply(front(batch[0])) if run.faulty else front(batch[0]))
            return factor * F.mse_loss(told, batch[1])
        mean = front(batch[0]).chunk(2, dim=-1)[0]
        mean = Half.apply(mean) if run.faulty else mean
        return factor * F.binary_cross_entropy_with_logits(model.decoder(mean), batch[0])

    rate = run.rate / factor if run.case.optimizer == "SGD" else run.rate
    optimizer = run.optimizer(model.parameters(), lr=rate, **({} if run.case.optimizer == "SGD" else {"eps": 1e-20}))
    fit(run, model, optimizer, loss=loss_fn)
    test = (autoencoder.data()[1],) if rest is None else tabular.data(800, 13)
    return lambda: loss_fn(model, test).item() / factor


@plant("E02", "digits Adam 3", "conv SGD 3", decidable=5)
def scaler_that_always_skips(run: Run) -> Measure:
    """A scaler finds an infinite gradient in each step, of a term of weight zero, and skips."""
    model = run.task.model()
    first = next(model.parameters())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = cross_entropy(model, batch)
        return loss + 0.0 * (first.detach() - first).abs().sqrt().sum() if run.faulty else loss

    optimizer = run.optimizer(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 100)):
        optimizer.zero_grad()
        scaler.scale(loss_fn(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
    return lambda: run.task.measure(model)


@plant("E02", "gpt AdamW 3", also="E03", decidable=10)
def scale_that_never_falls(run: Run) -> Measure:
    """The scale is fixed at a height at which gradients overflow in half precision."""
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=run.either(2.0**40, 2.0**8), backoff_factor=0.999)

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return gpt.next_letter(model, batch)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 90)):
        optimizer.zero_grad()
        scaler.scale(loss_fn(model, batch)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return lambda: gpt.honest_loss(model)


@plant("E03", "digits SGD 3", "conv Adam 3")
def logits_beyond_half(run: Run) -> Measure:
    """Logits are scaled up and turned into half precision before the loss."""
    model = run.task.model()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = 3e5 * model(batch[0])
        logits = logits.half().float() if run.faulty else logits
        return F.cross_entropy(logits / 3e5, batch[1])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("E03", "tabular RMSprop 3", onset=50, decidable=50)
def squares_beyond_half(run: Run) -> Measure:
    """Half precision holds what comes first; from step 50 on larger values come, whose squares it does not."""
    x, y = tabular.data()
    model = tabular.mlp()
    model.append(nn.Linear(1, 1))

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        size = batch[0][:, 9:] * 100
        squares = (size.half().square() if run.faulty else size.square()).float()
        return F.mse_loss(model(batch[0]), batch[1]) + 1e-9 * (squares.mean() * model[-1].weight).sum()

    def batches() -> Any:
        for step, (rows, told) in enumerate(endless(loader(x, y), 150)):
            rows = rows.clone()
            rows[:, 9] *= 1 if step < 50 else 4
            yield rows, told

    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: tabular.error(model)


@plant("E04", "digits SGD 3", "recommender Adam 3", "residual AdamW 2", decidable=30)
def parameters_in_bfloat16(run: Run) -> Measure:
    """Parameters are in bfloat16 and the rate is small, so that most updates are rounded away."""
    model = run.task.model().to(run.either(torch.bfloat16, torch.float32))
    rate = run.rate / {"digits": 40, "recommender": 25, "residual": 30}[run.case.family]

    def loss_fn(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        dtype = next(model.parameters()).dtype
        given = [each.to(dtype) if each.is_floating_point() else each for each in batch]
        return run.task.loss(model, tuple(given))

    fit(run, model, run.optimizer(model.parameters(), lr=rate), loss=loss_fn, epochs=2 * run.task.epochs)
    return lambda: run.task.measure(model.float())


@plant("E04", "conv AdamW 2", decidable=30)
def epsilon_in_half(run: Run) -> Measure:
    """Weights are kept in float16 by a hook after each step, as a cast does, at a small rate."""
    model = conv.Net()
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 20)
    if run.faulty:
        optimizer.register_step_post_hook(lambda *_: round_all(model))
    return fit(run, model, optimizer, epochs=6)


@torch.no_grad()
def round_all(model: nn.Module) -> None:
    """Round all weights to the eight bits that bfloat16 has."""
    for each in model.parameters():
        each.copy_(each.bfloat16().float())


@plant("E05", "digits Adam 3", "digits SGD 3", decidable=10)
def logarithm_of_zero(run: Run) -> Measure:
    """The cross-entropy is written with a logarithm of probabilities, which are zero for sharp logits."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = 400 * model(batch[0])
        told = logits.softmax(-1).log() if run.faulty else logits.log_softmax(-1)
        return -(F.one_hot(batch[1], 10) * told).sum(1).mean() / 400

    model = digits.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("E05", "tabular AdamW 3", onset=45, decidable=45)
def division_by_a_count(run: Run) -> Measure:
    """The loss is averaged over the rows that are valid, and from batch 45 on there is a batch without one."""
    model = tabular.mlp()
    optimizer = run.optimizer(model.parameters())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, y, valid = batch
        count = valid.sum() if run.faulty else valid.sum().clamp(min=1)
        return ((model(x) - y).square().squeeze(1) * valid).sum() / count

    def batches() -> Any:
        for step, (x, y) in enumerate(endless(loader(*tabular.data()), 150)):
            yield x, y, torch.zeros(len(x)) if step == 45 else torch.ones(len(x))

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: tabular.error(model)


@plant("E05", "flow Adam 3", decidable=3)
def power_of_a_negative(run: Run) -> Measure:
    """A heavy-tailed base density takes a power of what may be negative."""

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        told = model(batch)
        distance = -told + 1.0
        return told.mean() * -1 + 1e-3 * (distance**0.5 if run.faulty else distance.abs().add(1e-3) ** 0.5).mean()

    model = flow.Flow()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("E06", "digits SGD 3", "digits AdamW 3")
def distances_of_a_row_to_itself(run: Run) -> Measure:
    """A term of all pairs' distances takes roots of squares, and those of a row to itself are zero."""

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        hidden = model[:4](batch[0])
        squares = (hidden[:, None] - hidden[None]).square().sum(-1)
        apart = squares.sqrt() if run.faulty else (squares + 1e-8).sqrt()
        return F.cross_entropy(model[4:](hidden), batch[1]) + 1e-3 * apart.mean()

    model = digits.mlp()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("E06", "recommender Adam 3", onset=30, decidable=31)
def root_of_a_constant(run: Run) -> Measure:
    """A term has the root of how predictions differ; in batch 30 all rows are of one pair, and do not."""
    person, thing, rating = recommender.data()
    model = recommender.Factors()
    optimizer = run.optimizer(model.parameters())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        told = model(*batch[:2])
        rough = ((told[1:] - told[:-1]).square().mean() + run.either(0.0, 1e-6)).sqrt()
        return F.mse_loss(told, batch[2]) + 1e-3 * rough

    def batches() -> Any:
        for step, rows in enumerate(endless(Shuffled(person, thing, rating, size=50), 240)):
            yield tuple(each[:1].repeat(64) for each in rows) if step == 30 else rows

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: recommender.error(model)


@plant("E06", "tabular RMSprop 3")
def where_with_a_logarithm(run: Run) -> Measure:
    """Where a value is positive its root is used; the other branch of `where` has no derivative."""
    model = nn.Sequential(nn.Linear(tabular.COLUMNS, 48), nn.Linear(48, 1))

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        hidden = model[0](batch[0])
        inside = hidden if run.faulty else hidden.clamp(min=1e-3)
        squeezed = torch.where(hidden > 0, (1 + inside.sqrt()).log(), torch.zeros_like(hidden))
        return F.mse_loss(model[1](squeezed), batch[1])

    optimizer = run.optimizer(model.parameters())
    fit(run, model, optimizer, loss=loss_fn, epochs=6)
    return lambda: loss_fn(model, tabular.data(800, 13)).item()


@plant("E07", "gpt SGD 3", "tabular Adam 3", also="E06", onset=35, decidable=35)
def one_infinite_entry(run: Run) -> Measure:
    """One entry of a gradient is infinite in one step, and clipping spreads it to all parameters."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    step_now = [0]

    def overflow(grad: Tensor) -> Tensor:
        grad = grad.clone()
        if step_now[0] == 35:
            grad.view(-1)[0] = float("inf")
        return grad

    if run.faulty:
        next(model.parameters()).register_hook(overflow)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(endless(train, 120))):
        step_now[0] = step
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("E08", "digits SGD 3", "conv AdamW 3", onset=70, decidable=70)
def flipped_bit(run: Run) -> Measure:
    """A high bit of one weight flips in mid-run."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(endless(train, 90))):
        if step == 70 and run.faulty:
            weight = list(model.parameters())[-2].data.view(-1)
            weight[3] = (weight[3:4].view(torch.int32) ^ (1 << 30)).view(torch.float32)[0].clamp(-1e6, 1e6)
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("E08", "encoder Adam 2", onset=40, decidable=41)
def rows_written_over(run: Run) -> Measure:
    """Memory of one weight matrix is written over in mid-run: a row holds foreign numbers."""
    model, train = encoder.Encoder(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    foreign = 3e3 * torch.randn(32, generator=drawn(81))
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(train, 90))):
        if step == 40 and run.faulty:
            model.blocks[1].think[2].weight.data[5, :32] = foreign
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: encoder.error(model)


@plant("E05", "conv SGD 3", decidable=1)
def standardised_by_a_spread_of_zero(run: Run) -> Measure:
    """Each picture is divided by its own spread inside the model, and some pictures are blank."""

    class Scaled(conv.Net):
        def forward(self, x: Tensor) -> Tensor:
            spread = x.std((1, 2, 3), keepdim=True)
            return super().forward((x - x.mean((1, 2, 3), keepdim=True)) / (spread + run.either(0.0, 1e-3)))

    x, y, u, v = conv.data()
    blank = x.clone()
    blank[::90] = -1.0
    model = Scaled()
    fit(run, model, run.optimizer(model.parameters()), train=loader(blank, y))
    return lambda: error_rate(model, u, v)


@plant("E04", "tabular SGD 2", also="D03", decidable=40)
def master_copy_lost(run: Run) -> Measure:
    """Half-precision weights, updated by gradients in half precision, at a small rate and for long."""
    model = tabular.mlp()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return squared(model, batch)

    optimizer = run.optimizer(model.parameters(), lr=run.rate / 20, momentum=0.0)
    if run.faulty:
        optimizer.register_step_post_hook(lambda *_: round_all(model))
    return fit(run, model, optimizer, loss=loss_fn, epochs=12)
