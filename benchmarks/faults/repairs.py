"""Repairs: faults that a run can be freed of while it goes on, through `steepest.fit`, and healthy runs beside them.

A plant is a run of `fit` with one thing wrong. It is made without the fault, with it, and with it and repair="auto".
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from pilot.table import Table
from torch import Tensor, nn

from faults.case import OPTIMIZERS
from faults.families import task
from faults.harness import prepare
from faults.loops import length
from steepest import fit

NEAR = 0.02
"""Part of what training gains, from first weights to the healthy twin's last, that a repaired run may be short of."""


@dataclass
class Parts:
    """What a run is made of; a plant changes one thing. more: what else `fit` is given. seed: of the run."""

    family: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], Any]
    batches: Any
    options: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plant:
    """A fault in a run of a family. severity: 1 is marginal, 3 is clear."""

    cause: str
    what: str
    family: str
    optimizer: str
    severity: int
    spoil: Callable[[Parts], None]

    @property
    def name(self) -> str:
        """Return the name of the plant."""
        return f"{self.cause}.{self.what}.{self.family}.{self.optimizer}.{self.severity}"


@dataclass(frozen=True)
class Outcome:
    """What came of a run: how good its model is, lower is better, and the weights; which repairs were made."""

    measure: float
    weights: dict[str, Tensor]
    repairs: list[Any]
    found: list[str]
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Row:
    """A plant's runs: measures of first weights, of the healthy twin, with the fault, with it and repairs."""

    plant: Plant
    untrained: float
    healthy: float
    faulty: float
    mended: Outcome

    def near(self, measure: float) -> bool:
        """Return whether a measure is within 2 % of what training gains of the healthy twin's."""
        return measure <= self.healthy + NEAR * abs(self.untrained - self.healthy)

    def strictly(self, measure: float) -> bool:
        """Return whether a measure is at most 2 % above the healthy twin's."""
        return measure <= self.healthy + NEAR * abs(self.healthy)


class Spoiled:
    """Batches in which something is wrong: the same rows each time they come, told by their numbers."""

    def __init__(self, batches: Any, spoil: Callable[[list[Tensor]], list[Tensor]]) -> None:
        self.batches, self.spoil = batches, spoil

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return (tuple(self.spoil([each.clone() for each in batch])) for batch in self.batches)


def rate(times: float) -> Callable[[Parts], None]:
    """The rate is so many times what it should be."""
    return lambda parts: parts.options.update(lr=times * parts.options["lr"])


def jump(times: float, at: int = 60) -> Callable[[Parts], None]:
    """The schedule raises the rate in mid-run."""
    return lambda parts: parts.more.update(schedule=lambda step, steps: times if step >= at else 1.0)


def option(**values: Any) -> Callable[[Parts], None]:
    """The optimizer has another option."""
    return lambda parts: parts.options.update(values)


def clip(most: float) -> Callable[[Parts], None]:
    """Gradients are clipped far too short."""
    return lambda parts: parts.more.update(clip=most)


def dropout(part: float) -> Callable[[Parts], None]:
    """Dropout after the first layers, which takes nearly all."""

    def spoil(parts: Parts) -> None:
        parts.model.insert(2, nn.Dropout(part))  # type: ignore[operator]

    return spoil


def narrow(parts: Parts) -> None:
    """The weights are bfloat16."""
    parts.model.bfloat16()
    own = parts.loss
    parts.loss = lambda model, batch: own(_Wide(model), batch)


class _Wide:
    """Calls a model with its own kind of numbers, and returns single ones."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Tensor:
        return self.model(x.to(next(self.model.parameters()).dtype)).float()


def half_squares(size: float) -> Callable[[Parts], None]:
    """A small term of the loss squares large numbers in float16."""

    def spoil(parts: Parts) -> None:
        own = parts.loss

        def loss(model: nn.Module, batch: Any) -> Tensor:
            energy = (size * model(batch[0])).half().square().float().mean()
            return own(model, batch) + 1e-9 * energy

        parts.loss = loss

    return spoil


def told(rows: Tensor) -> Tensor:
    """Return a number from 0 to 1 for each row, the same each time."""
    return (rows.double() * torch.arange(1, rows.shape[1] + 1)).sum(1).mul(97.31).remainder(1.0)


def bad_rows(share: float) -> Callable[[Parts], None]:
    """Some rows have a value that is not finite."""

    def spoil(batch: list[Tensor]) -> list[Tensor]:
        first = batch[0].flatten(1)
        first[told(first) < share, 1] = math.nan
        return batch

    return lambda parts: setattr(parts, "batches", Spoiled(parts.batches, spoil))


def far_targets(share: float, times: float) -> Callable[[Parts], None]:
    """Some targets have lost their decimal point."""

    def spoil(batch: list[Tensor]) -> list[Tensor]:
        batch[1][told(batch[0].flatten(1)) < share] *= times
        return batch

    return lambda parts: setattr(parts, "batches", Spoiled(parts.batches, spoil))


def root_at_zero(share: float) -> Callable[[Parts], None]:
    """A penalty is the root of a sum that is zero for some batches: its derivative is infinite there."""

    def spoil(parts: Parts) -> None:
        own = parts.loss

        def loss(model: nn.Module, batch: Any) -> Tensor:
            there = float(told(batch[0].flatten(1))[0] >= share)
            return own(model, batch) + 1e-6 * (there * next(model.parameters())).square().sum().sqrt()

        parts.loss = loss

    return spoil


def plants() -> list[Plant]:
    """Return all plants."""
    found: list[Plant] = []

    def add(cause: str, what: str, spoils: dict[int, Callable[[Parts], None]], *where: str) -> None:
        for each in where:
            family, optimizer, severity = each.split()
            found.append(Plant(cause, what, family, optimizer, int(severity), spoils[int(severity)]))

    add("D01", "far_too_high", {1: rate(20), 2: rate(40), 3: rate(100)}, "conv Adam 1", "tabular AdamW 2",
        "recurrent Adam 3", "gpt AdamW 2")  # fmt: skip
    add("D01", "far_too_high", {1: rate(6), 2: rate(15), 3: rate(60)}, "digits SGD 2", "digits SGD 3", "conv SGD 2",
        "tabular SGD 3", "residual SGD 3")  # fmt: skip
    add("D01", "jumps", {2: jump(60), 3: jump(200)}, "digits Adam 3", "tabular SGD 2", "residual SGD 3")
    add("D03", "far_too_low", {1: rate(1 / 12), 2: rate(1 / 100), 3: rate(1 / 2000)}, "digits SGD 1", "digits SGD 3",
        "gpt AdamW 2", "tabular RMSprop 2", "recurrent Adam 3", "conv Adam 2")  # fmt: skip
    add("D07", "clipped", {1: clip(1e-2), 2: clip(3e-3), 3: clip(1e-3)}, "digits SGD 1", "recurrent SGD 2", "gpt SGD 3")
    add("D09", "decay", {1: option(weight_decay=5.0), 2: option(weight_decay=15.0), 3: option(weight_decay=40.0)},
        "digits AdamW 1", "tabular AdamW 2", "gpt AdamW 3")  # fmt: skip
    add("D11", "momentum", {2: option(momentum=0.997), 3: option(momentum=0.999)}, "digits SGD 3", "conv SGD 2")
    add("D14", "epsilon", {1: option(eps=0.1), 2: option(eps=1.0), 3: option(eps=10.0)}, "conv Adam 1",
        "recurrent Adam 2", "digits AdamW 3")  # fmt: skip
    add("D19", "dropout", {2: dropout(0.9), 3: dropout(0.95)}, "digits Adam 3")
    add("E04", "bfloat16", {2: narrow}, "digits Adam 2", "tabular SGD 2", "residual Adam 2")
    add("E03", "half_squares", {2: half_squares(20.0), 3: half_squares(60.0)}, "digits Adam 2", "conv AdamW 3")
    add("B01", "bad_rows", {2: bad_rows(0.03), 3: bad_rows(0.1)}, "tabular Adam 2", "digits SGD 3")
    add("B12", "far_targets", {2: far_targets(0.005, 300.0), 3: far_targets(0.01, 3000.0)}, "tabular Adam 2",
        "tabular SGD 3")  # fmt: skip
    add("E06", "root_at_zero", {2: root_at_zero(0.008)}, "digits Adam 2", "tabular SGD 2")
    return found


HEALTHY = (
    "digits SGD", "digits Adam", "digits AdamW", "digits RMSprop", "conv SGD", "conv Adam", "conv RMSprop",
    "tabular SGD", "tabular Adam", "tabular Adagrad", "gpt AdamW", "gpt SGD", "recurrent Adam", "recurrent SGD",
    "residual SGD", "residual Adam", "autoencoder Adam", "cancer SGD", "cancer Adam", "encoder AdamW", "flow Adam",
    "pinn Adam", "recommender Adam", "contrastive Adam", "graph Adam",
)  # fmt: skip


def once(family: str, optimizer: str, spoil: Callable[[Parts], None] | None, repair: str | None, seed: int) -> Outcome:
    """Make one run of `fit`, and say what came of it."""
    prepare(seed)
    of = task(family)
    options = {"lr": of.rates[optimizer], **OPTIMIZERS[optimizer]}
    parts = Parts(family, of.model(), of.loss, of.train(), options)
    if spoil is not None:
        spoil(parts)
    made = getattr(torch.optim, optimizer)(parts.model.parameters(), **parts.options)
    began, repairs, found, error = perf_counter(), [], [], ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = fit(
                parts.model, parts.loss, parts.batches, steps=of.epochs * length(parts.batches), optimizer=made,
                repair=repair, seed=seed, log=False, **parts.more,
            )  # fmt: skip
            repairs, found = result.repairs, [each.cause for each in result.findings]
        except FloatingPointError as raised:
            error = str(raised)
    seconds = perf_counter() - began
    weights = copy.deepcopy(parts.model.state_dict())
    return Outcome(_measured(of, parts.model), weights, repairs, found, seconds, error)


def _measured(of: Any, model: nn.Module) -> float:
    prepare(0)
    measure = float(of.measure(model.float()))
    return measure if math.isfinite(measure) else math.inf


def row(plant: Plant, seed: int) -> Row:
    """Make all runs of a plant."""
    prepare(seed)
    untrained = _measured(task(plant.family), task(plant.family).model())
    outcomes = [
        once(plant.family, plant.optimizer, spoil, repair, seed)
        for spoil, repair in ((None, None), (plant.spoil, None), (plant.spoil, "auto"))
    ]
    return Row(plant, untrained, outcomes[0].measure, outcomes[1].measure, outcomes[2])


def tables(prefix: str = "", seed: int = 0) -> list[Table]:
    """Make the runs whose names begin so, and return the table of plants and that of healthy runs."""
    rows = [row(plant, seed) for plant in plants() if plant.name.startswith(prefix)]
    found = [_of_plants(rows)] if rows else []
    names = [name for name in HEALTHY if f"ok.{name}".startswith(prefix)]
    return [*found, _of_healthy(names, seed)] if names else found


def _of_plants(rows: list[Row]) -> Table:
    said = [
        [each.plant.name, f"{each.untrained:.3g}", f"{each.healthy:.3g}", f"{each.faulty:.3g}",
         f"{each.mended.measure:.3g}", _words(each), f"{each.mended.seconds:.1f} s", _repairs(each.mended)]
        for each in rows
    ]  # fmt: skip
    hurt = [each for each in rows if not each.near(each.faulty)]
    near, strict = (sum(map(test, hurt)) for test in (_is_near, _is_strict))
    worse = sum(each.mended.measure > each.faulty + NEAR * abs(each.untrained - each.healthy) for each in rows)
    note = (
        f"Within {NEAR:.0%} of what training gains of the healthy twin: {near} of the {len(hurt)} plants that hurt "
        f"({near / max(1, len(hurt)):.2f}); of its measure itself: {strict}. Families: "
        f"{len({each.plant.family for each in rows})}. Worse with repairs than without: {worse}."
    )
    head = ["plant", "untrained", "healthy", "faulty", "repaired", "", "time", "repairs"]
    return Table("Faults, repaired", head, said, note)


def _is_near(row: Row) -> bool:
    return row.near(row.mended.measure)


def _is_strict(row: Row) -> bool:
    return row.strictly(row.mended.measure)


def _words(row: Row) -> str:
    if row.near(row.faulty):
        return "does not hurt"
    return "near" if _is_near(row) else "better" if row.mended.measure < row.faulty else "no better"


def _repairs(outcome: Outcome) -> str:
    made = "; ".join(f"{each.cause} {each.change} {each.status}" for each in outcome.repairs)
    return (made or f"found: {' '.join(outcome.found) or 'nothing'}") + (" ended" if outcome.error else "")


def _of_healthy(names: list[str], seed: int) -> Table:
    rows, harmed, touched = [], 0, 0
    for name in names:
        family, optimizer = name.split()
        alone, watched = (once(family, optimizer, None, repair, seed) for repair in (None, "auto"))
        same = all(torch.equal(value, watched.weights[key]) for key, value in alone.weights.items())
        worse = watched.measure > alone.measure + NEAR * abs(alone.measure)
        harmed, touched = harmed + worse, touched + (not same)
        rows.append(
            [name, f"{alone.measure:.3g}", f"{watched.measure:.3g}", "the same bits" if same else "others",
             f"{watched.seconds - alone.seconds:+.1f} s", _repairs(watched)]
        )  # fmt: skip
    note = f"Harmed (more than {NEAR:.0%} worse): {harmed} of {len(names)}; other bits than without: {touched}."
    return Table("Healthy runs", ["run", "alone", "watched", "weights", "time", "repairs"], rows, note)
