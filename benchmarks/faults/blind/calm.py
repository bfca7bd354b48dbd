"""Controls: training as it is done every day, in many manners."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import dicts, echoes, forms, jobs, made, near, repeated, series, tones, tuples, world
from faults.case import Measure, Run, healthy


@healthy(
    "bars SGD", "tones Adam", "spiral RMSprop", "radar AdamW", "counts SGD", "reverse Adam", "pulses AdamW",
    "twins SGD", "duties RMSprop", "cloze AdamW", "citations SGD", "weather SGD",
)  # fmt: skip
def as_usual(run: Run) -> Measure:
    """A good rate, shuffled data, and the loop that belongs to it."""
    model = world(run).model()
    return train(run, model, made(run, model))


@healthy("tones SGD", "weather Adam", "counts AdamW", "clinic RMSprop")
def half_the_rate(run: Run) -> Measure:
    """Half of a good rate, twice as long."""
    model = world(run).model()
    return train(run, model, made(run, model, 0.5), epochs=2 * world(run).epochs)


@healthy("bars Adam", "duties SGD", "pulses SGD")
def one_and_a_half_times_the_rate(run: Run) -> Measure:
    """A little above a good rate."""
    model = world(run).model()
    return train(run, model, made(run, model, 1.5))


@healthy("clinic AdamW", "cloze Adam")
def warmup_then_cosine(run: Run) -> Measure:
    """A warmup and a cosine, batch by batch; norms and biases are not decayed; gradients are clipped now and then."""
    here = world(run)
    model = here.model()
    flat = [each for each in model.parameters() if each.ndim < 2]
    full = [each for each in model.parameters() if each.ndim > 1]
    optimizer = made(run, [{"params": full, "weight_decay": 0.01}, {"params": flat, "weight_decay": 0.0}])
    warm = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=15)
    scheduler = lr_scheduler.SequentialLR(optimizer, [warm, lr_scheduler.CosineAnnealingLR(optimizer, 185)], [15])
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(repeated(here.data(), 200)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@healthy("duties AdamW", "duties SGD")
def labelled_and_not(run: Run) -> Measure:
    """Two loaders side by side: rows with answers, and rows whose noisy copies are to be answered alike."""
    known = {name: column[:360] for name, column in jobs().items()}
    other = {"x": jobs()["x"][360:]}
    here = world(run)
    model = here.model()

    def loss_fn(model: nn.Module, batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> Tensor:
        labelled, plain = batch
        told, _ = model(plain["x"])
        again, _ = model(plain["x"] + 0.1 * torch.randn_like(plain["x"]))
        return here.loss(model, labelled) + 0.3 * F.mse_loss(again, told)

    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(9):
        both = zip(dicts(24, **known), dicts(24, **other), strict=True)
        for batch in doctor(both):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    return lambda: here.measure(model)


@healthy("radar SGD", "clinic Adam")
def windows_and_what_is_left(run: Run) -> Measure:
    """Four batches make a step, and so does what is left at the end of an epoch, each by its own number."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model, 2.0)
    doctor = run.watch(model, optimizer, loss=here.loss)
    batches = len(here.data())  # type: ignore[arg-type]
    for _ in range(7):
        for number, batch in enumerate(doctor(here.data()), 1):
            left = batches % 4 if number > batches - batches % 4 else 4
            (here.loss(model, batch) / left).backward()
            if number % 4 == 0 or number == batches:
                optimizer.step()
                optimizer.zero_grad()
    return lambda: here.measure(model)


@healthy("radar Adam", "spiral SGD")
def autocast(run: Run) -> Measure:
    """The forward pass is in bfloat16, weights and sums are not."""
    here = world(run)
    model = here.model()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            told = model(batch[0])
        return (F.cross_entropy if run.case.family == "spiral" else F.mse_loss)(told.float(), batch[1])

    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(repeated(here.data(), 150)):
        optimizer.zero_grad(set_to_none=True)
        loss_fn(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@healthy("duties Adam")
def two_optimizers(run: Run) -> Measure:
    """SGD for the trunk, Adam for the heads."""
    here = world(run)
    model = here.model()
    slow = torch.optim.SGD(model.trunk.parameters(), lr=0.05, momentum=0.9)
    fast = torch.optim.Adam([*model.kind.parameters(), *model.amount.parameters()], lr=0.005)
    doctor = run.watch(model, slow, loss=here.loss)
    for batch in doctor(repeated(here.data(), 130)):
        for each in (slow, fast):
            each.zero_grad()
        here.loss(model, batch).backward()
        for each in (slow, fast):
            each.step()
    return lambda: here.measure(model)


@healthy("radar Adagrad", "duties Adagrad")
def adagrad(run: Run) -> Measure:
    """Steps that grow shorter by themselves."""
    here = world(run)
    model = here.model()
    return train(run, model, run.optimizer(model.parameters(), lr=0.05))


@healthy("radar LBFGS")
def quasi_newton(run: Run) -> Measure:
    """All rows at once, several evaluations a step."""
    here = world(run)
    model = nets.Plain(wide=12)
    optimizer = run.optimizer(model.parameters(), lr=0.3, max_iter=4)
    doctor = run.watch(model, optimizer, loss=near)
    for batch in doctor([echoes()] * 60):

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            loss = near(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)
    return lambda: here.measure(model)


@healthy("tones AdamW", "weather RMSprop")
def looked_at_and_kept(run: Run) -> Measure:
    """After each epoch other rows are looked at, and the best weights are kept and put back at the end."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    x, y = (tones if run.case.family == "tones" else series)(200, 330)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(6):
        model.train()
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            seen = here.loss(model, (x, y)).item()
        if seen < best:
            best, kept = seen, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return lambda: here.measure(model)


@healthy("clinic SGD", "clinic Adam")
def holes_filled(run: Run) -> Measure:
    """Some numbers are missing; they are filled with 0, the mean."""
    columns = dict(forms())
    hole = torch.rand(columns["number"].shape, generator=torch.Generator().manual_seed(331)) < 0.1
    columns["number"] = columns["number"].masked_fill(hole, float("nan")).nan_to_num(0.0)
    model = world(run).model()
    return train(run, model, made(run, model), data=dicts(**columns))


@healthy("weather AdamW")
def taken_up_again(run: Run) -> Measure:
    """A run is interrupted and taken up with all of its state."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 160)

    def go_on(batches: Any) -> None:
        for batch in batches:
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
            scheduler.step()

    go_on(repeated(here.data(), 50))
    saved = copy.deepcopy([each.state_dict() for each in (model, optimizer, scheduler)])
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 160)
    for each, state in zip((model, optimizer, scheduler), saved, strict=True):
        each.load_state_dict(state)
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    go_on(doctor(repeated(here.data(), 100)))
    return lambda: here.measure(model)


@healthy("tones RMSprop")
def short_run_of_a_plain_kind(run: Run) -> Measure:
    """No loss is given to what watches."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer)
    for _ in range(4):
        for x, y in doctor(tuples(*tones(), size=24)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return lambda: here.measure(model)
