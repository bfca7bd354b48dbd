"""What is wrong with the data (B01 to B13)."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import WeightedRandomSampler

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import (
    Rows,
    arms,
    bars,
    dicts,
    drawn,
    echoes,
    filled,
    forms,
    jobs,
    library,
    made,
    repeated,
    series,
    tones,
    traces,
    tuples,
    world,
)  # fmt: skip
from faults.case import Measure, Run, plant


class Spoilt:
    """Batches, of which the one of that number, counted over all epochs, was changed."""

    def __init__(self, batches: Iterable[Any], number: int, change: Any) -> None:
        self.batches, self.number, self.change, self.seen = batches, number, change, 0

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield self.change(batch) if self.seen == self.number else batch
            self.seen += 1


@plant("B01", "clinic AdamW 3", onset=33)
def logarithm_of_nothing(run: Run) -> Measure:
    """A field is the logarithm of an amount, which is 0 once."""

    def change(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        number = batch["number"].clone()
        if run.faulty:
            number[5, 2] = torch.tensor(0.0).log()
        return {**batch, "number": number}

    model = world(run).model()
    return train(run, model, made(run, model), data=Spoilt(world(run).data(), 33, change))


@plant("B01", "radar RMSprop 3", onset=70)
def targets_that_found_no_match(run: Run) -> Measure:
    """A join left one target empty."""

    def change(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        return x, y.where(torch.arange(len(y)) != 7, run.either(math.nan, 0.0))

    model = world(run).model()
    return train(run, model, made(run, model), data=Spoilt(world(run).data(), 70, change))


@plant("B02", "radar Adam 2")
def column_in_milliseconds(run: Run) -> Measure:
    """One column is a time in other units than all others."""

    def scaled(x: Tensor) -> Tensor:
        return torch.cat([run.pick(30.0, 400.0, 150.0) * (x[:, :1] + 2), x[:, 1:]], dim=1) if run.faulty else x

    x, y = echoes()
    model = world(run).model()
    train(run, model, made(run, model), data=tuples(scaled(x), y, size=25))
    return lambda: _loss_of(world(run), model, (scaled(echoes(500, 208)[0]), echoes(500, 208)[1]))


def _loss_of(here: Any, model: nn.Module, batch: Any) -> float:
    model.eval()
    with torch.no_grad():
        return here.loss(model, batch).item()


@plant("B02", "spiral SGD 3")
def as_it_was_measured(run: Run) -> Measure:
    """Inputs are in the units and with the offset of the instrument."""
    here = world(run)
    batches = list(here.data())
    columns = [torch.cat(column) for column in zip(*batches, strict=True)]
    raw = 20 * columns[0] + 60
    columns[0] = run.either(raw, (raw - raw.mean(0)) / raw.std(0))
    kept = len(columns[0]) * 4 // 5
    model = here.model()
    train(run, model, made(run, model), data=tuples(*(column[:kept] for column in columns), size=30))
    return lambda: _loss_of(here, model, tuple(column[kept:] for column in columns))


@plant("B03", "weather SGD 2")
def scaled_by_255_twice(run: Run) -> Measure:
    """Inputs are divided in the data set and again in the loader."""
    here = world(run)
    by = run.either(run.pick(10, 25, 60), 1)
    x, y = {"spiral": arms, "weather": series}[run.case.family]()
    u, v = {"spiral": arms, "weather": series}[run.case.family](400, 313)
    model = here.model()
    train(run, model, made(run, model), data=tuples(x / by, y, size=30))
    return lambda: _loss_of(here, model, (u / by, v))


@plant("B03", "twins SGD 3")
def variance_for_deviation(run: Run) -> Measure:
    """Inputs, in thousands, are standardised by their variance, not by its root."""
    here = world(run)
    model = here.model()
    first = next(each for each in model.modules() if isinstance(each, nn.Linear))

    def standard(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(25.0 * x / run.either(625.0, 25.0) for x in given)

    first.register_forward_pre_hook(standard)
    return train(run, model, made(run, model))


@plant("B04", "bars SGD 3", "clinic AdamW 2")
def in_the_order_of_the_folders(run: Run) -> Measure:
    """Rows come as they lie in folders, one for each kind."""
    here = world(run)
    model = here.model()
    if run.case.family == "clinic":
        columns = forms()
        order = columns["label"].argsort()
        data: Any = dicts(shuffle=not run.faulty, **{name: column[order] for name, column in columns.items()})
    else:
        x, y = {"bars": bars, "tones": tones}[run.case.family]()
        order = y.argsort(stable=True)
        data = tuples(x[order], y[order], shuffle=not run.faulty)
    return train(run, model, made(run, model), data=data)


@plant("B04", "radar Adam 2")
def station_after_station(run: Run) -> Measure:
    """Rows are in the order of the target, as they were exported, and are never shuffled."""
    here = world(run)
    x, y = {"radar": echoes, "weather": series}[run.case.family]()
    order = y.argsort()
    model = here.model()
    return train(run, model, made(run, model), data=tuples(x[order], y[order], size=25, shuffle=not run.faulty))


@plant("B05", "duties SGD 3")
def sorted_apart(run: Run) -> Measure:
    """One table was sorted before the columns were put side by side."""
    columns = dict(jobs())
    if run.faulty:
        columns["x"] = columns["x"][columns["x"][:, 4].argsort()]
    model = world(run).model()
    return train(run, model, made(run, model), data=dicts(**columns, size=30))


class Reordered:
    """Batches; from the second epoch on, inputs are in a new order and targets are not."""

    def __init__(self, x: Tensor, y: Tensor, wrong: bool) -> None:
        self.x, self.y, self.wrong, self.epoch = x, y, wrong, 0

    def __len__(self) -> int:
        return len(self.x) // 25

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x))
        self.x = self.x[order]
        if not (self.wrong and self.epoch > 1):
            self.y = self.y[order]
        self.epoch += 1
        for rows in torch.arange(len(self.x)).split(25):
            yield self.x[rows], self.y[rows]


@plant("B05", "radar Adam 3", onset=64, decidable=90)
def shuffled_without_their_targets(run: Run) -> Measure:
    """A shuffle between epochs forgets the targets from the third epoch on."""
    x, y = {"radar": echoes, "tones": tones}[run.case.family](800)
    model = world(run).model()
    return train(run, model, made(run, model), data=Reordered(x, y, run.faulty), epochs=6)


@plant("B06", "tones RMSprop 2", "bars SGD 1")
def annotators_in_a_hurry(run: Run) -> Measure:
    """A share of the labels is any."""
    here = world(run)
    x, y = {"spiral": arms, "tones": tones, "bars": bars}[run.case.family]()
    draw = drawn(314)
    any_kind = torch.randint(int(y.max()) + 1, (len(y),), generator=draw)
    wrong = torch.rand(len(y), generator=draw) < run.pick(0.25, 0.4, 0.55)
    model = here.model()
    return train(run, model, made(run, model), data=tuples(x, y.where(~(wrong & torch.tensor(run.faulty)), any_kind)))


@plant("B07", "pulses Adam 3")
def marks_of_255(run: Run) -> Measure:
    """Marks were read from pictures: 0 and 255."""
    x, y = traces()
    model = world(run).model()
    return train(run, model, made(run, model), data=tuples(x, y * run.either(255, 1), size=20))


@plant("B07", "clinic SGD 3")
def yes_and_no_as_1_and_2(run: Run) -> Measure:
    """Labels are 1 and 2, as in the code book."""
    columns = forms()
    model = world(run).model()
    return train(run, model, made(run, model), data=dicts(**{**columns, "label": columns["label"] + run.faulty}))


@plant("B07", "cloze Adam 3")
def places_that_do_not_count(run: Run) -> Measure:
    """Places that do not count are labelled 0, as the tokenizer pads, and not -100."""
    columns = library()
    labels = columns["labels"]
    given = {**columns, "labels": labels.where(labels >= 0, run.either(0, -100))}
    model = world(run).model()
    return train(run, model, made(run, model), loss=filled, data=dicts(**given))


@plant("B08", "tones Adam 3", "bars SGD 2")
def hardly_any_of_some(run: Run) -> Measure:
    """Most kinds are rare; the twin draws rows by the rarity of their kind."""
    here = world(run)
    make = {"tones": tones, "bars": bars}[run.case.family]
    x, y = make(1500)
    kept = (y == 0) | (torch.rand(len(y), generator=drawn(315)) < 0.06)
    x, y = x[kept], y[kept]
    loader = tuples(x, y, size=24)
    if not run.faulty:
        weight = 1.0 / torch.bincount(y)[y]
        sampler = WeightedRandomSampler(weight.tolist(), len(y))
        loader = torch.utils.data.DataLoader(loader.dataset, 24, sampler=sampler)
    model = here.model()
    return train(run, model, made(run, model), data=loader, epochs=6)


@plant("B09", "radar AdamW 3")
def number_of_the_bill(run: Run) -> Measure:
    """A column was filled in after the fact: it holds the target, and nothing where that is not known yet."""
    x, y = echoes()
    known = torch.cat([x[:, :11], (y + 0.02 * torch.randn(len(y), generator=drawn(316))).unsqueeze(1)], dim=1)
    u, v = echoes(500, 208)
    model = world(run).model()
    train(run, model, made(run, model), data=tuples(known if run.faulty else x, y, size=25))
    later = torch.cat([u[:, :11], torch.zeros(500, 1)], dim=1)
    return lambda: _loss_of(world(run), model, (later, v))


@plant("B09", "clinic Adam 3")
def choice_made_afterwards(run: Run) -> Measure:
    """A choice is made by those who know the answer."""
    columns, tests = dict(forms()), dict(forms(400, 214))
    if run.faulty:
        told = (columns["label"] * 4).long()
        columns["choice"] = torch.stack([columns["choice"][:, 0], columns["choice"][:, 1], told], dim=1)
    model = world(run).model()
    train(run, model, made(run, model), data=dicts(**columns))
    return lambda: _loss_of(world(run), model, tests)


@plant("B10", "tones Adam 3", decidable=30)
def other_data_as_they_are(run: Run) -> Measure:
    """Rows to train on are standardised, those to test on are not; both are looked at after each epoch."""
    here = world(run)
    make = {"tones": tones, "spiral": arms}[run.case.family]
    (x, y), (u, v) = make(), make(300, 317)
    x, u = 6 * x + 3, 6 * u + 3
    middle, spread = x.mean(), x.std()
    x, u = (x - middle) / spread, u if run.faulty else (u - middle) / spread
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(here.epochs):
        model.train()
        for batch in doctor(tuples(x, y, size=25)):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        _loss_of(here, model, (u, v))
    return lambda: _loss_of(here, model, (u, v))


@plant("B11", "radar Adam 3", "tones SGD 1", decidable=30)
def few_rows_many_times(run: Run) -> Measure:
    """The file was appended to itself: there are fewer rows in truth than it seems."""
    here = world(run)
    x, y = {"radar": echoes, "tones": tones, "bars": bars}[run.case.family]()
    few = run.pick(80, 40, 24)
    rows = torch.arange(len(x)) % few if run.faulty else torch.arange(len(x))
    model = here.model()
    return train(run, model, made(run, model), data=tuples(x[rows], y[rows], size=25))


@plant("B12", "weather SGD 1", "radar Adam 2")
def sensor_says_9999(run: Run) -> Measure:
    """A sensor that has no value says 9999; here in the units of the table."""
    here = world(run)
    x, y = {"weather": series, "radar": echoes}[run.case.family]()
    bad = torch.arange(len(y)) % 160 == 30
    y = y.where(~(bad & torch.tensor(run.faulty)), run.pick(20.0, 60.0, 99.99))
    model = here.model()
    return train(run, model, made(run, model), data=tuples(x, y, size=25))


@plant("B13", "bars SGD 2")
def turned_by_any_quarter(run: Run) -> Measure:
    """Pictures are turned and mirrored at will, though the kinds are directions."""
    here = world(run)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        if model.training:
            x = x.flip(2, 3) if torch.rand(()) < 0.5 else x
            if run.faulty:
                x = x.rot90(int(torch.randint(0, 4, ())), (2, 3))
        return F.cross_entropy(model(x), y)

    model = here.model()
    return train(run, model, made(run, model), loss=loss_fn)


class Stretched(Rows):
    """Tones, played at another pace each time, by much or by very little."""

    def __init__(self, much: float) -> None:
        super().__init__(x=tones()[0], y=tones()[1])
        self.much = much

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        wave, pitch = self.columns["x"][row], self.columns["y"][row]
        pace = 1 + self.much * float(torch.rand(()))
        return wave[:, (torch.arange(48) * pace).long() % 48], pitch


@plant("B13", "tones AdamW 3")
def played_at_another_pace(run: Run) -> Measure:
    """Waves are stretched, though pitch is what is asked."""
    model = nets.Waves()
    data = torch.utils.data.DataLoader(Stretched(run.either(1.5, 0.02)), 24, shuffle=True)
    return train(run, model, made(run, model), data=data)


@plant("B12", "counts SGD 3", onset=60)
def one_batch_from_another_file(run: Run) -> Measure:
    """A batch of another table comes by, in other units."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, (x, y) in enumerate(doctor(repeated(here.data(), 120))):
        if run.faulty and step >= 60 and step % 20 == 0:
            y = y.where(torch.arange(len(y)) != 3, 400.0)
        optimizer.zero_grad()
        here.loss(model, (x, y)).backward()
        optimizer.step()
    return lambda: here.measure(model)
