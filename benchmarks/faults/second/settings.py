"""Settings of the optimizer, sizes of batches, and how much is asked of the model (D09 to D21)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import pages, stream, tuples
from faults.second.loops import train
from faults.second.losses import denoised, filed
from faults.second.worlds import made, world


@plant("D09", "molecules AdamW 3")
def decay_meant_per_epoch(run: Run) -> Measure:
    """Decay was given for a whole epoch, and is applied at each step."""
    model = world(run).model()
    decay = run.either(25.0, 0.01)
    return train(run, model, made(run, model, weight_decay=decay))


@plant("D09", "visitors SGD 2")
def shrunk_by_hand(run: Run) -> Measure:
    """After each step all parameters are made smaller by hand, by a share that forgets the rate."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(1 - 0.02 * run.either(1.0, 1e-3))
    return lambda: here.measure(model)


@plant("D10", "patients Adam 3")
def penalty_under_a_sine(run: Run) -> Measure:
    """A penalty on weights goes through the moments, where a decay beside them was meant."""
    model = world(run).model()
    return train(run, model, made(run, model, weight_decay=run.either(run.pick(1e-3, 3e-2, 1e-1), 0.0)))


@plant("D11", "glyphs SGD 2", decidable=30)
def nearly_no_friction(run: Run) -> Measure:
    """Momentum was raised to be smoother, and the rate was not lowered."""
    model = world(run).model()
    return train(run, model, made(run, model, momentum=run.either(run.pick(0.985, 0.99, 0.995), 0.9)))


@plant("D13", "islands Adagrad 3", decidable=5)
def sum_that_never_forgets(run: Run) -> Measure:
    """The first batches are a thousand times louder: Adagrad's sums never forget them."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), here.steps))):
        optimizer.zero_grad()
        (denoised(model, batch) * (3000.0 if at < 5 and run.faulty else 1.0)).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("D14", "cells Adam 2", "strokes Adagrad 3")
def epsilon_of_another_paper(run: Run) -> Measure:
    """An epsilon as large as is used for another kind of network, at the rate of this one."""
    model = world(run).model()
    return train(run, model, made(run, model, eps=run.either(run.pick(0.1, 0.3, 10.0), 1e-8)))


@plant("D15", "claims Adam 2", decidable=40)
def row_by_row(run: Run) -> Measure:
    """A batch is one row or two, at the rate of many."""
    rows = sources.claims()
    size = run.either(run.pick(2, 2, 1), 25)
    return train(run, data=tuples(*rows, size=size), steps=280, manner="steps")


@plant("D16", "essays SGD 2")
def an_epoch_is_a_step(run: Run) -> Measure:
    """Each step takes nearly all rows, and the epochs are as few as they were."""
    rows = sources.essays()
    size = run.either(450, 30)
    return train(run, data=tuples(*rows, size=size), steps=run.either(60, 300), manner="steps")


@plant("D17", "sentences SGD 3", decidable=40)
def rare_words_by_plain_steps(run: Run) -> Measure:
    """A table of words, most of them rare, is left to plain SGD, at the rate of a dense net; the twin has Adagrad."""
    model = world(run).model()
    sound = torch.optim.Adagrad(model.parameters(), lr=0.08)
    optimizer = run.either(torch.optim.SGD(model.parameters(), lr=0.1), sound)
    return train(run, model, optimizer)


@plant("D19", "essays AdamW 2", decidable=25)
def noise_on_all_that_passes(run: Run) -> Measure:
    """Dropout of nine in ten between all layers."""
    share = run.either(run.pick(0.8, 0.85, 0.9), 0.1)
    model = nets.Grader()
    model.merit.insert(2, nn.Dropout(share))
    model.merit.insert(5, nn.Dropout(share))
    return train(run, model)


@plant("D19", "glyphs Adam 1", decidable=25)
def labels_smoothed_away(run: Run) -> Measure:
    """Labels are smoothed until little is left of them."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        smooth = run.either(0.7, 0.02) if model.training else 0.0
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=smooth)

    return train(run, loss=loss_fn)


@plant("D20", "sentences AdamW 2", decidable=80)
def learned_by_heart(run: Run) -> Measure:
    """A wide net and many epochs over few rows; the twin is narrow and stops in time."""
    here = world(run)
    model, data = nets.Words(wide=run.either(96, 24), dropout=0.0), pages(sources.sentences()[:400])
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=filed)
    for _ in range(run.either(300, 65) // len(data)):
        model.train()
        for batch in doctor(data):
            optimizer.zero_grad()
            filed(model, batch).backward()
            optimizer.step()
        here.measure(model)
    return lambda: here.measure(model)


@plant("D21", "molecules Adagrad 2", "islands Adam 1", decidable=30)
def limit_of_a_trial(run: Run) -> Measure:
    """The number of steps is one for a trial, and the loss was still falling."""
    model = world(run).model()
    by = {"molecules": 0.08, "islands": 0.4}[run.case.family]
    return train(run, model, made(run, model, by), steps=run.either(60, 300))
