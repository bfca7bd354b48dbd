"""Controls that look sick and are not."""

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import (
    arms,
    bars,
    both,
    classed,
    counts,
    dicts,
    drawn,
    echoes,
    filled,
    forms,
    jobs,
    judged,
    library,
    made,
    near,
    pairs,
    repeated,
    series,
    texts,
    tones,
    tuples,
    world,
)  # fmt: skip
from faults.case import Measure, Run, healthy


@healthy("inverse Adam", "lifetimes RMSprop", scary=True)
def below_zero(run: Run) -> Measure:
    """Densities above 1: the loss is negative and goes on falling."""
    model = world(run).model()
    return train(run, model, made(run, model))


@healthy("weather SGD", "cloze Adam", scary=True)
def warm_restarts(run: Run) -> Measure:
    """The rate jumps back up twice."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 50)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), 150)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@healthy("tones Adam", "bars SGD", scary=True)
def mixed_and_smoothed(run: Run) -> Measure:
    """Rows are mixed with each other, and labels smoothed: the loss stays high."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        if not model.training:
            return classed(model, batch)
        share, order = 0.5 + 0.5 * float(torch.rand(())), torch.randperm(len(x))
        told = model(share * x + (1 - share) * x[order])
        one, other = (F.cross_entropy(told, each, label_smoothing=0.1) for each in (y, y[order]))
        return share * one + (1 - share) * other

    model = here.model()
    return train(run, model, made(run, model), loss=loss_fn, epochs=6)


class _Low(nn.Module):
    """A linear layer that is kept, and what is learned beside it, of low rank."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


@healthy("duties AdamW", "duties SGD", scary=True)
def low_rank_beside_what_is_kept(run: Run) -> Measure:
    """A trained model is kept and adapted by factors of low rank, one of which begins at zero."""
    here = world(run)
    model = here.model()
    early = torch.optim.Adam(model.parameters(), lr=0.01)
    columns = {**jobs(), "amount": -jobs()["amount"]}
    for batch in repeated(dicts(30, **columns), 80):
        early.zero_grad()
        both(model, batch).backward()
        early.step()
    for place in (0, 2):
        model.trunk[place] = _Low(model.trunk[place])
    model.kind.requires_grad_(False)
    optimizer = made(run, [each for each in model.parameters() if each.requires_grad])
    return train(run, model, optimizer)


@healthy("radar SGD", "counts SGD", scary=True)
def sum_with_a_rate_to_match(run: Run) -> Measure:
    """A sum over rows, at a rate for sums."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return here.loss(model, batch) * len(batch[0])

    model = here.model()
    return train(run, model, made(run, model, 1 / 25), loss=loss_fn)


@healthy("cloze AdamW", "clinic Adam", scary=True)
def clipped_at_every_step(run: Run) -> Measure:
    """Adam, and a norm to which gradients are nearly always cut."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 120)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return lambda: here.measure(model)


@healthy("spiral Adam", scary=True)
def forger_and_judge(run: Run) -> Measure:
    """Two players: a forger of points and a judge, with a penalty on the judge's slope."""
    true = arms()[0]
    forger = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    judge = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    one, other = (torch.optim.Adam(each.parameters(), lr=3e-3, betas=(0.5, 0.9)) for each in (forger, judge))

    def fooled(forger: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return -judge(forger(torch.randn(len(batch[0]), 4))).mean()

    doctor = run.watch(forger, one, loss=fooled)
    for batch in doctor(repeated(tuples(true, size=50), 200)):
        x = batch[0].clone().requires_grad_()
        fake = forger(torch.randn(50, 4)).detach()
        told = judge(x)
        slope = torch.autograd.grad(told.sum(), x, create_graph=True)[0].square().sum(1).mean()
        other.zero_grad()
        (F.relu(1 - told).mean() + F.relu(1 + judge(fake)).mean() + slope).backward()
        other.step()
        one.zero_grad()
        fooled(forger, batch).backward()
        one.step()

    @torch.no_grad()
    def measure() -> float:
        fake = forger(torch.randn(1000, 4, generator=drawn(332)))
        return ((fake.mean(0) - true.mean(0)).abs() + (fake.std(0) - true.std(0)).abs()).mean().item()

    return measure


@healthy("bandit Adam", "bandit SGD", scary=True)
def arms_of_a_bandit(run: Run) -> Measure:
    """A policy and a critic learn which of five arms pays in which state; the policy's loss says nothing."""
    pay = torch.randn(6, 5, generator=drawn(333))
    model = nn.ModuleDict({"policy": nn.Linear(6, 5), "critic": nn.Linear(6, 1)})

    def loss_fn(model: nn.Module, state: Tensor) -> Tensor:
        policy = torch.distributions.Categorical(logits=model["policy"](state))
        arm = policy.sample()
        reward = pay[state.argmax(1), arm] + 0.5 * torch.randn(len(state))
        value = model["critic"](state).squeeze(1)
        gain = (reward - value).detach()
        return -(gain * policy.log_prob(arm)).mean() + 0.5 * F.mse_loss(value, reward) - 0.01 * policy.entropy().mean()

    optimizer = run.optimizer(model.parameters(), lr=0.05 if run.case.optimizer == "Adam" else 0.3)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for state in doctor(F.one_hot(torch.randint(6, (64,)), 6).float() for _ in range(200)):
        optimizer.zero_grad()
        loss_fn(model, state).backward()
        optimizer.step()

    @torch.no_grad()
    def measure() -> float:
        return -(model["policy"](torch.eye(6)).softmax(1) * pay).sum(1).mean().item()

    return measure


@healthy("tones AdamW", "bars Adam", scary=True)
def pupil_of_a_frozen_teacher(run: Run) -> Measure:
    """A small model learns what a large one says; the large one is part of the module and never moves."""
    here = world(run)
    teacher = here.model(wide=24)
    early = torch.optim.Adam(teacher.parameters(), lr=0.01)
    for batch in repeated(here.data(), 80):
        early.zero_grad()
        classed(teacher, batch).backward()
        early.step()
    model = nn.ModuleDict({"pupil": here.model(), "teacher": teacher.eval().requires_grad_(False)})

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            wanted = model["teacher"](batch[0]) / 2
        told = model["pupil"](batch[0]) / 2
        return 4 * F.kl_div(told.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean")

    optimizer = made(run, model["pupil"])
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(here.data(), 110)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model["pupil"])


@healthy("weather Adam", "radar SGD", scary=True)
def easy_rows_first(run: Run) -> Measure:
    """Easy rows first, all rows from batch 60 on: the loss jumps, as it must."""
    here = world(run)
    x, y = {"weather": series, "radar": echoes}[run.case.family]()
    easy = y.abs() < 0.7
    model = here.model()
    optimizer = made(run, model)
    stream = chain(repeated(tuples(x[easy], y[easy], size=25), 60), repeated(tuples(x, y, size=25), 140))
    doctor = run.watch(model, optimizer, loss=near)
    for batch in doctor(stream):
        optimizer.zero_grad()
        near(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("memory Adam", "memory SGD", scary=True)
def learned_by_heart(run: Run) -> Measure:
    """Sixty-four rows that are all there is, learned until nothing is left to learn."""
    x, y = torch.randn(64, 12, generator=drawn(334)), torch.randint(4, (64,), generator=drawn(335))
    model = nn.Sequential(nn.Linear(12, 96), nn.ReLU(), nn.Linear(96, 4))
    optimizer = run.optimizer(model.parameters(), lr=0.02 if run.case.optimizer == "Adam" else 0.1)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(repeated(tuples(x, y, size=16), 240)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()
    return lambda: classed(model, (x, y)).item()


@healthy("spiral SGD", scary=True)
def scale_that_comes_down_first(run: Run) -> Measure:
    """A scaler whose scale begins too high leaves out the first steps, and then none."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scale = 2.0**24
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(here.data(), 180)):
        optimizer.zero_grad()
        (here.loss(model, batch) * scale).backward()
        if all(each.grad.half().isfinite().all() for each in model.parameters()):
            for each in model.parameters():
                each.grad /= scale
            optimizer.step()
        else:
            scale /= 2
    return lambda: here.measure(model)


@healthy("cloze RMSprop", scary=True)
def plateau_and_then_a_cliff(run: Run) -> Measure:
    """A high rate all along, and a steep end of it under which the loss falls at once."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 1.3)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (160 - step) / 30))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), 160)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@healthy("bars AdamW", "spiral Adam", scary=True)
def thawed_layer_by_layer(run: Run) -> Measure:
    """The head alone first; what is below it joins the optimizer after forty batches."""
    here = world(run)
    model = here.model()
    head = model.fc if run.case.family == "bars" else model.head
    model.requires_grad_(False)
    head.requires_grad_(True)
    optimizer = made(run, head)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 150))):
        if step == 40:
            rest = [each for each in model.parameters() if not each.requires_grad]
            model.requires_grad_(True)
            optimizer.add_param_group({"params": rest})
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("risks Adam", scary=True)
def who_goes_first(run: Run) -> Measure:
    """Cox's likelihood compares the rows of a batch with each other, by design."""
    x = torch.randn(600, 6, generator=drawn(336))
    time = (-(x[:, 0] + x[:, 1] * x[:, 2])).exp() * -torch.rand(600, generator=drawn(337)).clamp(min=1e-4).log()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        order = batch[1].argsort(descending=True)
        risk = model(batch[0][order]).squeeze(1)
        return (risk.logcumsumexp(0) - risk).mean()

    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = run.optimizer(model.parameters(), lr=0.01)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(x[:450], time[:450], size=45), 150)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: judged(loss_fn, lambda: (x[450:], time[450:]))(model)


@healthy("twins Adam", "twins SGD", scary=True)
def two_towers(run: Run) -> Measure:
    """Each row is to find its partner among all of the batch."""
    one, other, same = pairs(1500)
    one, other = one[same > 0], other[same > 0]

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        left, right = (F.normalize(model(each), dim=1) for each in batch)
        return F.cross_entropy(left @ right.T / 0.3, torch.arange(len(left)))

    model = nets.Siamese()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(one[:600], other[:600], size=40), 150)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: judged(loss_fn, lambda: (one[600:640], other[600:640]))(model)


@healthy("ahead Adam", scary=True)
def slow_twin_to_follow(run: Run) -> Measure:
    """A model predicts what its own slow mean says of another view; the mean has no gradient."""
    x = arms(900)[0]
    model = nn.ModuleDict(
        {"body": nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 8)), "guess": nn.Linear(8, 8)}
    )
    slow = copy.deepcopy(model["body"]).requires_grad_(False)

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        one, other = (batch[0] + 0.1 * torch.randn_like(batch[0]) for _ in range(2))
        wanted = slow(other).detach()
        return 1 - F.cosine_similarity(model["guess"](model["body"](one)), wanted, dim=1).mean()

    optimizer = run.optimizer(model.parameters(), lr=3e-3)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(x, size=30), 150)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
        with torch.no_grad():
            for mean, each in zip(slow.parameters(), model["body"].parameters(), strict=True):
                mean.lerp_(each, 0.03)
    return lambda: loss_fn(model, (x,)).item()


@healthy("codes Adam", scary=True)
def nearest_code(run: Run) -> Measure:
    """What is encoded is replaced by the nearest of sixteen codes; the gradient goes straight through."""
    x = echoes()[0][:, :4].tanh()
    model = nn.ModuleDict(
        {"into": nn.Linear(4, 3), "out": nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 4))}
    )
    model.register_parameter("codes", nn.Parameter(0.5 * torch.randn(16, 3)))

    def loss_fn(model: Any, batch: tuple[Tensor]) -> Tensor:
        z = model["into"](batch[0])
        code = model.codes[torch.cdist(z, model.codes).argmin(1)]
        near_by = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        return F.mse_loss(model["out"](z + (code - z).detach()), batch[0]) + near_by

    optimizer = run.optimizer(model.parameters(), lr=0.01)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(x, size=40), 180)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: loss_fn(model, (x,)).item()


@healthy("radar AdamW", "weather RMSprop", scary=True)
def heavy_tails_and_a_loss_for_them(run: Run) -> Measure:
    """Noise has heavy tails, and the loss is one that can bear them."""
    here = world(run)
    x, y = {"radar": echoes, "weather": series}[run.case.family]()
    y = y + 0.2 * torch.distributions.StudentT(1.5).sample(y.shape)
    model = here.model()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.huber_loss(model(batch[0]), batch[1], delta=0.5)

    return train(run, model, made(run, model), loss=loss_fn, data=tuples(x, y, size=25))


@healthy("clinic AdamW", scary=True)
def rare_and_weighted(run: Run) -> Measure:
    """One answer in ten is yes, and weighs as much as the nine."""
    columns = forms(1600)
    kept = (columns["label"] == 0) | (torch.rand(1600, generator=drawn(338)) < 0.12)
    columns = {name: column[kept] for name, column in columns.items()}
    weight = (columns["label"] == 0).sum() / columns["label"].sum()

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        told = model(batch["number"], batch["choice"])
        return F.binary_cross_entropy_with_logits(told, batch["label"], pos_weight=weight)

    model = world(run).model()
    return train(run, model, made(run, model), loss=loss_fn, data=dicts(**columns))


@healthy("tones SGD", "spiral AdamW", scary=True)
def answers_that_chance_decides(run: Run) -> Measure:
    """A third of the answers are luck, for new rows too: the best there is has a high loss."""
    here = world(run)
    make = {"tones": tones, "spiral": arms}[run.case.family]

    def luck(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        x, y = make(rows, seed)
        draw = drawn(seed + 500)
        other = torch.randint(int(y.max()) + 1, (rows,), generator=draw)
        return x, y.where(torch.rand(rows, generator=draw) > 0.33, other)

    model = here.model()
    train(run, model, made(run, model, 0.3), data=tuples(*luck(1200, 203), size=40), epochs=4)
    return lambda: judged(classed, lambda: luck(500, 204))(model)


@healthy("tones SGD", scary=True)
def as_measured_under_a_norm(run: Run) -> Measure:
    """Waves in the units of the sound card; the first layer is a norm."""
    x, y = tones()
    model = nn.Sequential(nn.BatchNorm1d(1), nets.Waves())
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(repeated(tuples(4000 * x + 900, y, size=24), 110)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()
    u, v = tones(400, 204)
    return lambda: judged(classed, lambda: (4000 * u + 900, v))(model)


@healthy("radar SGD", "spiral SGD", scary=True)
def one_row_and_short_steps(run: Run) -> Measure:
    """A row at a time, with steps that are short enough for it."""
    here = world(run)
    x, y = {"radar": echoes, "spiral": arms}[run.case.family]()
    model = here.model()
    optimizer = made(run, model, 0.15)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(tuples(x, y, size=1), 300)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("counts Adam", scary=True)
def likelihood_made_large(run: Run) -> Measure:
    """The likelihood itself, and an optimizer that is told to make it large."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        log = model(batch[0])
        return (batch[1] * log - log.exp()).mean()

    model = here.model()
    return train(run, model, made(run, model, maximize=True), loss=loss_fn)


@healthy("counts SGD", scary=True)
def clipped_and_noised_for_privacy(run: Run) -> Measure:
    """Gradients are cut to a norm and noised, that nobody's row be told."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    x, y = counts()
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(repeated(tuples(x, y, size=60), 180)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in model.parameters():
            each.grad += 0.02 * torch.randn_like(each)
        optimizer.step()
    return lambda: here.measure(model)


@healthy("bars SGD", scary=True)
def norms_kept_as_they_are(run: Run) -> Measure:
    """A trained model is tuned on brighter pictures with its norms in evaluation mode, as small batches ask for."""
    here = world(run)
    model = here.model()
    early = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in repeated(here.data(), 50):
        early.zero_grad()
        classed(model, batch).backward()
        early.step()
    model.eval()
    model.bn1.requires_grad_(False)
    model.bn2.requires_grad_(False)
    x, y = bars(300, 340)
    optimizer = made(run, [each for each in model.parameters() if each.requires_grad], 0.03)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(repeated(tuples(3 * x + 1, y, size=8), 90)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()
    u, v = bars(300, 341)
    return lambda: judged(classed, lambda: (3 * u + 1, v))(model)


@healthy("reverse Adam", scary=True)
def longer_words_later(run: Run) -> Measure:
    """Half of the letters count at first, then all: the loss rises when there is more to say."""
    here = world(run)
    model = here.model()

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["source"], F.pad(batch["target"][:, :-1], (1, 0), value=6))
        return F.cross_entropy(logits[:, : counted[0]].flatten(0, 1), batch["target"][:, : counted[0]].flatten())

    counted = [1]
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for step, batch in enumerate(doctor(repeated(here.data(), 200))):
        counted[0] = min(4, 1 + step // 30)
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("cloze AdamW", scary=True)
def tuned_from_almost_right(run: Run) -> Measure:
    """A model that knows almost all is tuned: the loss begins far below that of a guess, and hardly falls."""
    here = world(run)
    model = here.model()
    early = torch.optim.Adam(model.parameters(), lr=0.008)
    for batch in repeated(here.data(), 160):
        early.zero_grad()
        filled(model, batch).backward()
        early.step()
    data = dicts(**library(400))
    optimizer = made(run, model, 0.15)
    doctor = run.watch(model, optimizer, loss=filled)
    for batch in doctor(repeated(data, 100)):
        optimizer.zero_grad()
        filled(model, batch).backward()
        optimizer.step()
    tests = texts(300, drawn(226))
    return lambda: judged(filled, lambda: tests)(model)


@healthy("spiral RMSprop", scary=True)
def attacked_on_purpose(run: Run) -> Measure:
    """Each batch is moved a little in the direction that hurts most: the training loss is above the other."""
    here = world(run)
    model = here.model()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        x = x.clone().requires_grad_()
        slope = torch.autograd.grad(classed(model, (x, y)), x)[0]
        return classed(model, (x.detach() + 0.08 * slope.sign(), y))

    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(here.data(), 150)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("choices SGD", scary=True)
def rows_of_a_table_seldom_asked(run: Run) -> Measure:
    """A sparse table of words, most of which have no gradient in most batches."""
    taste = torch.randn(300, generator=drawn(342))
    asked = torch.multinomial(1 / (torch.arange(300) + 3.0), 6000, True, generator=drawn(343)).view(1500, 4)
    y = (taste[asked].sum(1) > 0).float()
    model = nn.EmbeddingBag(300, 1, sparse=True, mode="sum")

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]).squeeze(1), batch[1])

    optimizer = torch.optim.SGD(model.parameters(), lr=4.0)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(tuples(asked[:1200], y[:1200], size=40), 180)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: loss_fn(model, (asked[1200:], y[1200:])).item()
