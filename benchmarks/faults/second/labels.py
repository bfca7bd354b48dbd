"""Labels that are not those of their rows, not as the loss wants them, or known too soon (B05 to B09)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import Dicts, bags, molecules as load, pages, together, tuples
from faults.second.loops import train
from faults.second.losses import graded, near_row, of
from faults.second.sources import drawn
from faults.second.worlds import made, world


@plant("B05", "essays Adagrad 3", decidable=30)
def ten_before_two(run: Run) -> Measure:
    """Essays are in the order of their files' names as text, and grades in the order of the numbers."""
    x, y = sources.essays()
    by_name = torch.tensor(sorted(range(len(x)), key=str))
    return train(run, data=tuples(x[by_name] if run.faulty else x, y, size=30))


def _longest_first(lines: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return lines, the longest first, with kinds as they were."""
    order = sorted(range(len(lines)), key=lambda at: -len(lines[at][0]))
    words, starts, _ = bags([lines[at] for at in order])
    return words, starts, torch.tensor([kind for _, kind in lines])


@plant("B05", "sentences Adam 3", decidable=22)
def sorted_by_length_in_the_batch(run: Run) -> Measure:
    """To join lines to a batch they are sorted by length, and their labels are not."""
    return train(run, data=pages(collate=run.either(_longest_first, bags)))


@plant("B05", "molecules Adam 3", decidable=20)
def energies_in_another_order(run: Run) -> Measure:
    """Graphs of a batch are sorted by size for the sake of memory; energies are not."""

    def joined(graphs: Any) -> tuple[Tensor, ...]:
        by_size = sorted(graphs, key=lambda each: len(each[0]))
        energies = torch.stack([each[2] for each in (graphs if run.faulty else by_size)])
        return *together(by_size)[:3], energies.unsqueeze(1)

    return train(run, data=load(collate=joined))


@plant("B06", "glyphs Adagrad 2", decidable=26)
def two_signs_confused(run: Run) -> Measure:
    """Those who labelled could not tell some signs apart, and chose among them at will."""
    x, y = sources.glyphs()
    share = run.either(run.pick(0.3, 0.5, 0.8), 0.0)
    wrong = torch.rand(len(y), generator=drawn(521)) < share
    other = (y + torch.randint(1, 6, y.shape, generator=drawn(522))) % 6
    return train(run, data=tuples(x, torch.where(wrong, other, y), size=24), steps=150)


@plant("B06", "sales Adam 3", decidable=30)
def part_of_the_join_went_wrong(run: Run) -> Measure:
    """For a third of the rows the sales are those of another row."""
    shop, day, number, sold = sources.sales()
    wrong = (torch.rand(len(sold), 1, generator=drawn(523)) < 0.5) & run.faulty
    other = sold[torch.randperm(len(sold), generator=drawn(524))]
    return train(run, data=tuples(shop, day, number, torch.where(wrong, other, sold), size=40))


@plant("B07", "essays SGD 2")
def grades_from_one(run: Run) -> Measure:
    """Grades go from 1 to 5, and the thresholds count from 0."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return graded(model, (batch[0], batch[1] + int(run.faulty)))

    return train(run, loss=loss_fn)


@plant("B07", "visitors RMSprop 3")
def hinge_of_noughts(run: Run) -> Measure:
    """A hinge wants -1 and 1, and gets 0 and 1: the noughts teach nothing."""

    def hinge(model: nn.Module, batch: dict[str, Tensor], low: bool) -> Tensor:
        told = model(batch["page"], batch["number"])["buy"].squeeze(1)
        label = batch["bought"] if low else 2 * batch["bought"] - 1
        return F.relu(1 - label * told).mean()

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return hinge(model, batch, run.faulty)

    def honest(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return hinge(model, batch, False)

    model = nets.Shopper()
    del model.heads["spend"], model.heads["taste"]
    model.spread.requires_grad_(False)
    measure = of(honest, lambda: sources.visitors(500, 469))
    wanted = [each for each in model.parameters() if each.requires_grad]
    return train(run, model, made(run, wanted), loss=loss_fn, measure=measure)


@plant("B08", "cells RMSprop 2", decidable=20)
def little_to_be_seen(run: Run) -> Measure:
    """Few pixels belong to a cell, and each pixel counts alike; in the twin cells count for more."""
    x, _ = sources.cells()
    down, across = torch.arange(16.0).view(1, 16, 1), torch.arange(16.0).view(1, 1, 16)

    def spots(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        draw = drawn(seed)
        y, x = (torch.randint(2, 14, (rows, 1, 1), generator=draw) for _ in range(2))
        mask = (((down - y).abs() + (across - x).abs()) < 2).float().unsqueeze(1)
        return 1.1 * mask + 0.5 * torch.randn(rows, 1, 16, 16, generator=draw), mask

    weight = torch.tensor(40.0)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        more = None if run.faulty else weight
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1], pos_weight=more)

    def honest(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        found, mask = model(batch[0]) > 0, batch[1] > 0
        return ((~found & mask).sum() / mask.sum() + (found & ~mask).sum() / (~mask).sum()) / 2

    data = tuples(*spots(len(x), 525), size=16)
    return train(run, data=data, loss=loss_fn, steps=80, measure=of(honest, lambda: spots(150, 526)))


@plant("B08", "sentences RMSprop 3", decidable=22)
def one_module_above_all(run: Run) -> Measure:
    """Nine lines in ten are of one module; the twin has as few lines, but of all modules alike."""
    lines = sources.sentences()
    seen, kept = [0] * 5, []
    limits = run.either([230, 6, 6, 6, 6], [51, 51, 51, 51, 51])
    for words, kind in lines:
        if seen[kind] < limits[kind]:
            seen[kind] += 1
            kept.append((words, kind))
    model = nets.Words(dropout=0.4)
    return train(run, model, made(run, model, 0.6), data=pages(kept, size=24), steps=64)


@plant("B09", "diabetes SGD 3", decidable=24)
def mean_target_of_the_patient(run: Run) -> Measure:
    """A column holds the mean target of the row's group, worked out with the row itself; groups are tiny."""

    def encoded(test: bool) -> tuple[Tensor, Tensor]:
        x, y = sources.diabetes(test)
        told = sources.diabetes()[1]
        group = torch.arange(len(y)) // run.either(2, 100) % (len(told) // run.either(2, 100))
        size = run.either(2, 100)
        mean = told[: len(told) // size * size].view(-1, size).mean(1)[group]
        return torch.cat([x, mean.unsqueeze(1)], dim=1), y

    model = nets.perceptron(11, 16, 1)
    measure = of(near_row, lambda: encoded(True))
    return train(run, model, data=tuples(*encoded(False), size=25), measure=measure, steps=144)


@plant("B09", "visitors AdamW 3", decidable=20)
def basket_of_afterwards(run: Run) -> Measure:
    """One of the numbers is what was in the basket at the end; for new visitors it is empty."""

    def seen(rows: int, seed: int, new: bool) -> dict[str, Tensor]:
        columns = sources.visitors(rows, seed)
        number = columns["number"].clone()
        number[:, 4] = 2 * columns["spent"] * (not new) if run.faulty else number[:, 4] * 0
        return {**columns, "number": number}

    here = world(run)
    test = seen(500, 469, True)
    plain = of(lambda model, batch: F.mse_loss(model(batch["page"], batch["number"])["spend"].squeeze(1),
                                               batch["spent"]), lambda: test)  # fmt: skip
    return train(run, data=Dicts(seen(960, 419, False)), loss=here.loss, measure=plain)
