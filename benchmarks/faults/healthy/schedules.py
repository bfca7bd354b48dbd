"""Rates, schedules and optimizers that make the loss jump, stand still or shrink gradients, as they are meant to."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, update_bn

from faults.case import Measure, Run, healthy
from faults.families import conv, digits, gpt, recommender, residual, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, squared
from faults.loops import clipped, fit, length, scheduled, stepped


@healthy("digits SGD", "gpt AdamW", "autoencoder Adam", scary=True)
def warm_restarts(run: Run) -> Measure:
    """The rate goes back to its height three times, and the loss with it."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters(), lr=2 * run.rate)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 40)
    return scheduled(run, model, optimizer, scheduler)


@healthy("conv SGD", "tabular SGD", scary=True)
def cyclic(run: Run) -> Measure:
    """A triangular rate."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.CyclicLR(optimizer, run.rate / 10, 2 * run.rate, step_size_up=15)
    return scheduled(run, model, optimizer, scheduler)


@healthy("residual SGD", "digits AdamW", "recurrent Adam", scary=True)
def one_cycle(run: Run) -> Measure:
    """A rate that climbs to four times the usual and falls to nothing."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    steps = run.task.epochs * length(run.task.train())
    scheduler = lr_scheduler.OneCycleLR(optimizer, 2.5 * run.rate, total_steps=steps)
    return scheduled(run, model, optimizer, scheduler)


@healthy("gpt Adam", "tabular RMSprop", scary=True)
def stable_then_decay(run: Run) -> Measure:
    """A constant rate, and a steep decay at the end under which the loss drops at once."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters(), lr=1.5 * run.rate)
    steps = run.task.epochs * length(run.task.train())
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / (0.2 * steps)))
    return scheduled(run, model, optimizer, scheduler)


@healthy("digits SGD", "conv AdamW", scary=True)
def step_decay_by_epoch(run: Run) -> Measure:
    """A tenth of the rate for the last epoch, in one step."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.MultiStepLR(optimizer, [run.task.epochs - 1], 0.1)
    doctor = run.watch(model, optimizer, loss=loss_fn, scheduler=scheduler)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
        scheduler.step()
    return lambda: run.task.measure(model)


@healthy("cancer SGD", "encoder Adam", scary=True)
def lowered_on_a_plateau(run: Run) -> Measure:
    """The rate is halved where an epoch's loss did not fall."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    doctor = run.watch(model, optimizer, loss=loss_fn, scheduler=scheduler)
    for _ in range(run.task.epochs):
        total = 0.0
        for batch in doctor(train):
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step(total)
    return lambda: run.task.measure(model)


@healthy("digits SGD", "tabular SGD", scary=True)
def long_warmup(run: Run) -> Measure:
    """A third of the run is warmup."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters(), lr=2 * run.rate)
    return scheduled(run, model, optimizer, lr_scheduler.LinearLR(optimizer, 0.02, 1.0, 45))


@healthy("digits Adam", "recurrent AdamW", "tabular Adam", scary=True)
def enormous_gradients(run: Run) -> Measure:
    """The loss is weighted ten-thousandfold, which Adam does not see."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return 1e4 * run.task.loss(model, batch)

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@healthy("conv Adam", "recommender AdamW", scary=True)
def tiny_gradients(run: Run) -> Measure:
    """The loss is weighted by a ten-thousandth, with an epsilon to match."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return 1e-4 * run.task.loss(model, batch)

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), eps=1e-14), loss=loss_fn)


@healthy("gpt Adam", "encoder AdamW", scary=True)
def clipped_always(run: Run) -> Measure:
    """Clipping binds in nearly every step, which Adam does not see."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    return clipped(run, model, optimizer, lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1))


@healthy("digits SGD", "conv SGD", "tabular SGD", scary=True)
def summed_at_a_matching_rate(run: Run) -> Measure:
    """The loss is a sum over the batch, and the rate is divided by its size."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return len(batch[0]) * run.task.loss(model, batch)

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 32), loss=loss_fn)


@healthy("digits SGD", "tabular AdamW", "contrastive Adam", scary=True)
def accumulated(run: Run) -> Measure:
    """Four batches make a step, each divided by four."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters(), lr=2 * run.rate)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for index, batch in enumerate(doctor(endless(train, 320))):
        (loss_fn(model, batch) / 4).backward()
        if (index + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: run.task.measure(model)


@healthy("digits SGD", scary=True)
def accumulated_sums(run: Run) -> Measure:
    """Eight small batches are added up, undivided, at an eighth of the rate; the last window of an epoch is shorter."""
    model = digits.mlp()
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 8)
    train = Shuffled(*digits.data()[:2], size=8)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(3):
        for index, batch in enumerate(doctor(train)):
            cross_entropy(model, batch).backward()
            if index % 8 == 7 or index == len(train) - 1:
                optimizer.step()
                optimizer.zero_grad()
    return lambda: digits.error(model)


@healthy("digits SGD", scary=True)
def catapult(run: Run) -> Measure:
    """At a high rate the loss jumps up in the first steps, and settles in a flat place."""
    x, y, _, _ = digits.data()
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = run.optimizer(model.parameters(), lr=0.6, momentum=0.0)
    return fit(run, model, optimizer, train=Shuffled(x, y, size=100), epochs=12)


@healthy("tabular SGD", scary=True)
def edge_of_stability(run: Run) -> Measure:
    """Full-batch descent at a rate at which the loss oscillates while it falls."""
    x, y = tabular.data()
    model = nn.Sequential(nn.Linear(tabular.COLUMNS, 40), nn.Tanh(), nn.Linear(40, 1))
    optimizer = run.optimizer(model.parameters(), lr=0.25, momentum=0.0)
    doctor = run.watch(model, optimizer, loss=squared)
    for batch in doctor((x, y) for _ in range(250)):
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
    return lambda: tabular.error(model)


@healthy("tabular LBFGS", scary=True)
def closure(run: Run) -> Measure:
    """A quasi-Newton method that calls a closure many times a step, on all rows."""
    model, loss_fn = tabular.mlp(), squared
    optimizer = run.optimizer(model.parameters(), lr=0.5, max_iter=8, line_search_fn="strong_wolfe")
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor([tabular.data()] * 8):

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)
    return lambda: run.task.measure(model)


@healthy("gpt Adam", scary=True)
def loud_first_steps(run: Run) -> Measure:
    """A short warmup from far too large outputs: the first loss is ten times that of a guess."""
    model = gpt.Gpt()
    model.head.weight.data.mul_(15)
    optimizer = run.optimizer(model.parameters(), lr=2 * run.rate)
    return scheduled(run, model, optimizer, lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 10))


@healthy("digits Adam", "conv SGD", scary=True)
def averaged_weights(run: Run) -> Measure:
    """An average of weights is kept beside the model, and its batch norm estimated at the end."""
    model, train, loss_fn = run.task.model(), run.task.train(), run.task.loss
    optimizer, average = run.optimizer(model.parameters()), AveragedModel(model)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for epoch in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
        if epoch > 0:
            average.update_parameters(model)
    update_bn(train, average)
    return lambda: run.task.measure(average)


@healthy("residual AdamW", scary=True)
def moving_average_swapped_in(run: Run) -> Measure:
    """Validation swaps the weights' moving average in and out again."""
    model, train = residual.net(), run.task.train()
    optimizer, average = run.optimizer(model.parameters()), [each.detach().clone() for each in model.parameters()]
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(train, 150))):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
        torch._foreach_lerp_(average, [each.detach() for each in model.parameters()], 0.1)
        if step % 40 == 39:
            kept = [each.detach().clone() for each in model.parameters()]
            with torch.no_grad():
                torch._foreach_copy_(list(model.parameters()), average)
                residual.error(model)
                torch._foreach_copy_(list(model.parameters()), kept)
            model.train()
    return lambda: residual.error(model)


@healthy("recommender Adam", scary=True)
def two_optimizers(run: Run) -> Measure:
    """Embeddings have an optimizer of their own, that moves only the rows of a batch."""
    model = recommender.Factors(sparse=True)
    tables = [model.person.weight, model.thing.weight]
    optimizer = torch.optim.SparseAdam(tables, lr=run.rate)
    other = torch.optim.SGD(model.liked.parameters(), lr=1.0)
    doctor = run.watch(model, optimizer, loss=recommender.squared)
    for batch in doctor(endless(run.task.train(), 250)):
        optimizer.zero_grad()
        other.zero_grad()
        recommender.squared(model, batch).backward()
        optimizer.step()
        other.step()
    return lambda: recommender.error(model)


@healthy("digits SGD", scary=True)
def sharpness_aware(run: Run) -> Measure:
    """Two gradients a step: the second at weights that were moved uphill, and moved back."""
    model, train = digits.mlp(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(train, 124)):
        cross_entropy(model, batch).backward()
        with torch.no_grad():
            norm = torch.stack([each.grad.norm() for each in model.parameters()]).norm()
            moved = [0.05 * each.grad / norm for each in model.parameters()]
            torch._foreach_add_(list(model.parameters()), moved)
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        with torch.no_grad():
            torch._foreach_sub_(list(model.parameters()), moved)
        optimizer.step()
        optimizer.zero_grad()
    return lambda: digits.error(model)


@healthy("gpt AdamW", "residual Adam", scary=True)
def layers_at_falling_rates(run: Run) -> Measure:
    """Lower layers have smaller rates, down to a fiftieth."""
    model = run.task.model()
    parameters = list(model.parameters())
    rates = [run.rate * 50 ** (index / (len(parameters) - 1) - 1) for index in range(len(parameters))]
    groups = [{"params": [each], "lr": rate} for each, rate in zip(parameters, rates, strict=True)]
    return fit(run, model, run.optimizer(groups))


@healthy("digits SGD", "conv SGD", scary=True)
def heavy_momentum_small_rate(run: Run) -> Measure:
    """Momentum of 0.98 at a fifth of the rate, and Nesterov's."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), lr=run.rate / 5, momentum=0.98, nesterov=True))


@healthy("gpt AdamW", "tabular AdamW", scary=True)
def quick_second_moment(run: Run) -> Measure:
    """A second moment of short memory, and decay of 0.3."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), betas=(0.9, 0.9), weight_decay=0.3))


@healthy("conv AdamW", scary=True)
def batches_that_grow(run: Run) -> Measure:
    """The batch doubles with each epoch, from 16 to 128."""
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for size in (16, 32, 64, 128):
        for batch in doctor(loader(*conv.data()[:2], size=size)):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
    return lambda: conv.error(model)


@healthy("tabular SGD", scary=True)
def noise_in_the_gradient(run: Run) -> Measure:
    """Noise is added to gradients, for privacy."""
    model, draw = tabular.mlp(), drawn(91)
    optimizer = run.optimizer(model.parameters())

    def spoil() -> None:
        for each in model.parameters():
            each.grad.add_(0.02 * torch.randn(each.shape, generator=draw))

    return clipped(run, model, optimizer, spoil)


@healthy("digits SGD", scary=True)
def rate_raised_in_mid_run(run: Run) -> Measure:
    """The rate is raised fourfold for a stage and lowered again; it was low before."""
    model = digits.mlp()
    optimizer = run.optimizer(model.parameters(), lr=run.rate / 2)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = run.rate * (2 if 50 <= step < 90 else 0.5)

    return stepped(run, model, optimizer, before, 140)
