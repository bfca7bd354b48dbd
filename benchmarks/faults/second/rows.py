"""Rows as they should not be: values, units and order (B01 to B04, B10 to B13)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, WeightedRandomSampler

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import molecules, stream, tasted, tuples
from faults.second.loops import train
from faults.second.losses import claimed, classed, continued, foretold, near_row, of
from faults.second.worlds import made, world


@plant("B01", "claims AdamW 3", onset=48)
def one_over_nothing(run: Run) -> Measure:
    """A column is one over a number of cars, which is 0 once."""

    def batches() -> Any:
        for at, (x, span, count) in enumerate(stream(world(run).data(), 150)):
            none = (torch.arange(len(span)) == 7) & (at == 48) & run.faulty
            yield torch.cat([x[:, :4], x[:, 4:].masked_fill(none.unsqueeze(1), math.inf)], dim=1), span, count

    model = world(run).model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=claimed)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        claimed(model, batch).backward()
        optimizer.step()
    return lambda: world(run).measure(model)


@plant("B01", "cells SGD 3", onset=33)
def broken_pixel(run: Run) -> Measure:
    """One picture has a pixel that is not a number, from a division by an empty frame."""
    pictures, masks = (each.clone() for each in sources.cells())
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, (x, y) in enumerate(doctor(stream(tuples(pictures, masks, size=16), 80))):
        if at == 33 and run.faulty:
            x[4, 0, 3, 3] = math.nan
        optimizer.zero_grad()
        here.loss(model, (x, y)).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("B02", "wine Adam 1")
def as_the_laboratory_wrote_them(run: Run) -> Measure:
    """Wines with columns in their own units: proline in the hundreds, hue about one."""
    data, test = (sources.wine(), sources.wine(True)) if run.faulty else (tasted(), tasted(True))
    return train(run, data=tuples(*data, size=16), measure=of(classed, lambda: test))


@plant("B02", "picture AdamW 2")
def places_in_pixels(run: Run) -> Measure:
    """Places are counted in pixels, where sines are made for -1 to 1."""
    by, at = (run.pick(4.0, 8.0, 15.5), 1.0) if run.faulty else (1.0, 0.0)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(by * (batch[0] + at)), batch[1])

    return train(run, loss=loss_fn, measure=of(loss_fn, lambda: sources.picture(45)))


@plant("B03", "wine RMSprop 3")
def standardised_along_the_row(run: Run) -> Measure:
    """Mean and spread are taken over the columns of a wine, not over the wines of a column."""

    def standard(test: bool) -> tuple[Tensor, Tensor]:
        x, y = sources.wine(test)
        return ((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), y) if run.faulty else tasted(test)

    return train(run, data=tuples(*standard(False), size=16), measure=of(classed, lambda: standard(True)))


@plant("B03", "glyphs SGD 2")
def numbers_of_another_collection(run: Run) -> Measure:
    """Pictures from 0 to 1 are standardised as if they went from 0 to 255."""

    def standard(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        x, y = sources.glyphs(rows, seed)
        return (x / 40 if run.faulty else x), y

    model = nets.Signs(kind="group")
    model.features[1] = model.features[5] = nn.Identity()
    test = standard(300, 471)
    return train(run, model, data=tuples(*standard(600, 425), size=24), measure=of(classed, lambda: test), steps=150)


@plant("B04", "sales SGD 3", decidable=31)
def shop_after_shop(run: Run) -> Measure:
    """Sales come shop by shop, as the accounts were appended to each other."""
    rows = sources.sales()
    order = rows[0].argsort(stable=True)
    return train(run, data=tuples(*(column[order] for column in rows), size=40, shuffle=not run.faulty), steps=150)


class _Buffer:
    """Rows in their order, shuffled within a buffer."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return len(self.x) // 24

    def __iter__(self) -> Any:
        order = torch.cat([part[torch.randperm(len(part))] for part in torch.arange(len(self.x)).split(self.size)])
        return ((self.x[rows], self.y[rows]) for rows in order.split(24))


@plant("B04", "glyphs RMSprop 2", decidable=26)
def small_buffer(run: Run) -> Measure:
    """A stream that is sorted by sign is shuffled in a buffer of a few batches."""
    x, y = sources.glyphs()
    order = y.argsort(stable=True)
    data = _Buffer(x[order], y[order], run.either(60, 600))
    return train(run, data=data, manner="steps")


@plant("B10", "glyphs SGD 3", decidable=26)
def blue_green_red(run: Run) -> Measure:
    """Other pictures are read by a library that has colours the other way round."""
    x, y = sources.glyphs(300, 471)
    test = (x.flip(1) if run.faulty else x), y
    measure = of(classed, lambda: test)
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(4):
        model.train()
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        measure(model)
    return lambda: measure(model)


@plant("B10", "whistles RMSprop 3", decidable=16)
def other_gain(run: Run) -> Measure:
    """Other waves come from a recorder with another gain, and with its offset."""
    wave = sources.whistles(200, 464)
    test = (0.3 * wave + 1.5 if run.faulty else wave,)
    measure = of(continued, lambda: test)
    return train(run, measure=measure)


@plant("B11", "diabetes AdamW 3", decidable=40)
def drawn_with_weights(run: Run) -> Measure:
    """A sampler with weights draws from a few rows only: the others' weights were rounded to nothing."""
    here = world(run)
    data = here.data()
    rows: Any = data.dataset  # type: ignore[attr-defined]
    kept = torch.arange(len(rows)) % 25 == 0 if run.faulty else torch.ones(len(rows), dtype=torch.bool)
    sampler = WeightedRandomSampler((kept + 0.0).tolist(), len(rows))
    size, collate = data.batch_size, data.collate_fn  # type: ignore[attr-defined]
    return train(run, data=DataLoader(rows, size, sampler=sampler, collate_fn=collate), steps=170)


@plant("B12", "diabetes Adam 1")
def comma_forgotten(run: Run) -> Measure:
    """In a few rows the decimal point of the target is missing."""
    x, y = sources.diabetes()
    wrong = (torch.arange(len(y)) % 40 == 3) & run.faulty
    data = tuples(x, torch.where(wrong, 100 * y, y), size=25)
    return train(run, data=data, measure=of(near_row, lambda: sources.diabetes(True)))


@plant("B12", "molecules AdamW 2")
def other_units_of_energy(run: Run) -> Measure:
    """A part of the energies is from another programme, in other units."""
    graphs = [
        (kind, edges, 30 * energy if run.faulty and at % 50 == 7 else energy)
        for at, (kind, edges, energy) in enumerate(sources.molecules())
    ]
    return train(run, data=molecules(graphs))


@plant("B13", "glyphs AdamW 3", decidable=26)
def mixed_without_their_labels(run: Run) -> Measure:
    """Pictures are mixed with each other, and each keeps its label as if it were whole."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        order, share = torch.randperm(len(x)), torch.rand(len(x), 1, 1, 1)
        told = model(share * x + (1 - share) * x[order])
        if run.faulty:
            return F.cross_entropy(told, y)
        one, other = (F.cross_entropy(told, each, reduction="none") for each in (y, y[order]))
        weight = share.flatten()
        return (weight * one + (1 - weight) * other).mean()

    return train(run, loss=loss_fn, steps=150, measure=of(classed, lambda: sources.glyphs(300, 471)))


@plant("B13", "sales RMSprop 3", decidable=31)
def fields_blotted_out(run: Run) -> Measure:
    """To make the model robust, fields are exchanged between rows, nearly all of them."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shop, day, number, sold = batch
        swapped = torch.rand(len(shop)) < run.either(0.85, 0.03)
        order = torch.randperm(len(shop))
        shop, day = (torch.where(swapped, each[order], each) for each in (shop, day))
        number = torch.where(swapped.unsqueeze(1), number[order], number)
        return foretold(model, (shop, day, number, sold))

    return train(run, loss=loss_fn)
