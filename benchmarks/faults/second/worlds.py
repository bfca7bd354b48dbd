"""What the programs of this part train: models, data, losses, measures, and rates that were found by a sweep."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from faults.case import Run
from faults.second import nets, sources
from faults.second.batches import Dicts, Hands, Triplets, bags, molecules, pages, tasted, together, tuples
from faults.second.losses import (
    answered,
    apart,
    bound,
    chosen,
    claimed,
    classed,
    confused,
    continued,
    denoised,
    filed,
    foretold,
    forgone,
    graded,
    near,
    near_row,
    of,
    ordered,
    outlined,
    plainly,
    ranked,
    shopped,
)  # fmt: skip
from faults.second.sources import drawn


@dataclass(frozen=True)
class World:
    """model, loss, loader of an epoch, measure; rates of SGD, Adam and AdamW, RMSprop, Adagrad; steps; loop."""

    model: Callable[..., nn.Module]
    loss: Callable[[nn.Module, Any], Tensor]
    data: Callable[[], Iterable[Any]]
    measure: Callable[[nn.Module], float]
    rates: tuple[float, float, float, float]
    steps: int
    manner: str

    def rate(self, optimizer: str) -> float:
        """Return the rate of an optimizer."""
        return dict(zip(("SGD", "Adam", "RMSprop", "Adagrad"), self.rates, strict=True))[optimizer.removesuffix("W")]


def world(run: Run) -> World:
    """Return the world of a run's case."""
    return WORLDS[run.case.family]


def made(run: Run, model: nn.Module | Iterable[Any], by: float = 1.0, **more: Any) -> Any:
    """Return the case's optimizer of a model, or of parameters, with the world's rate times by."""
    parameters = model.parameters() if isinstance(model, nn.Module) else model
    more.setdefault("lr", by * world(run).rate(run.case.optimizer))
    return run.optimizer(parameters, **more)


WORLDS: dict[str, World] = {
    "cards": World(
        nets.Asking, answered, lambda: Dicts(sources.cards()), of(answered, lambda: sources.cards(500, 461)),
        (0.12, 0.008, 0.004, 0.05), 150, "steps",
    ),
    "cells": World(
        nets.UNet, outlined, lambda: tuples(*sources.cells(), size=16), of(outlined, lambda: sources.cells(120, 462)),
        (0.05, 0.02, 0.008, 0.06), 80, "checked",
    ),
    "hands": World(
        nets.Sorter, ordered, Hands, of(ordered, lambda: sources.hands(300, drawn(463))),
        (0.4, 0.012, 0.005, 0.05), 150, "clipped",
    ),
    "whistles": World(
        nets.Whistler, continued, lambda: tuples(sources.whistles()),
        of(continued, lambda: (sources.whistles(200, 464),)),
        (0.03, 0.01, 0.004, 0.03), 120, "steps",
    ),
    "molecules": World(
        nets.Messages, bound, molecules, of(bound, lambda: together(sources.molecules(200, 465))),
        (0.0015, 0.006, 0.003, 0.03), 160, "unpacked",
    ),
    "islands": World(
        nets.Score, denoised, lambda: tuples(sources.islands(), size=64),
        of(denoised, lambda: (sources.islands(1000, 466),)),
        (0.15, 0.02, 0.008, 0.07), 250, "averaged",
    ),
    "strokes": World(
        nets.Embedder, apart, lambda: Triplets(*sources.strokes()), confused, (0.05, 0.004, 0.002, 0.02), 120, "trainer"
    ),
    "essays": World(
        nets.Grader, graded, lambda: tuples(*sources.essays(), size=30), of(graded, lambda: sources.essays(400, 467)),
        (0.2, 0.015, 0.008, 0.08), 180, "closure",
    ),
    "patients": World(
        lambda: nets.perceptron(8, 32, 32, 1), ranked, lambda: tuples(*sources.patients(), size=48),
        of(ranked, lambda: sources.patients(500, 468)), (0.05, 0.005, 0.002, 0.03), 120, "epochs",
    ),
    "visitors": World(
        nets.Shopper, shopped, lambda: Dicts(sources.visitors()), of(plainly, lambda: sources.visitors(500, 469)),
        (0.025, 0.008, 0.004, 0.05), 150, "trainer",
    ),
    "sales": World(
        nets.Demand, foretold, lambda: tuples(*sources.sales(), size=40), of(foretold, lambda: sources.sales(500, 470)),
        (0.2, 0.008, 0.004, 0.05), 150, "unpacked",
    ),
    "clicks": World(
        lambda: nets.perceptron(6, 32, 4), chosen, lambda: Dicts(sources.clicks(), size=50), forgone,
        (0.15, 0.012, 0.006, 0.06), 180, "epochs",
    ),
    "glyphs": World(
        nets.Signs, classed, lambda: tuples(*sources.glyphs(), size=24), of(classed, lambda: sources.glyphs(300, 471)),
        (0.02, 0.01, 0.003, 0.03), 100, "checked",
    ),
    "regimes": World(
        nets.Experts, near, lambda: tuples(*sources.regimes(), size=40), of(near, lambda: sources.regimes(500, 472)),
        (0.05, 0.02, 0.008, 0.05), 240, "closure",
    ),
    "picture": World(
        nets.siren, near, lambda: tuples(*sources.picture(), size=128), of(near, lambda: sources.picture(45)),
        (0.01, 0.004, 0.0015, 0.015), 200, "planned",
    ),
    "claims": World(
        lambda: nets.perceptron(5, 24, 24, 1, bend=nn.SiLU), claimed, lambda: tuples(*sources.claims(), size=32),
        of(claimed, lambda: sources.claims(500, 473)), (0.015, 0.012, 0.005, 0.05), 150, "accumulating",
    ),
    "wine": World(
        lambda: nets.perceptron(13, 24, 3), classed, lambda: tuples(*tasted(), size=16),
        of(classed, lambda: tasted(True)),
        (0.05, 0.01, 0.004, 0.05), 70, "epochs",
    ),
    "diabetes": World(
        lambda: nets.perceptron(10, 16, 1), near_row, lambda: tuples(*sources.diabetes(), size=25),
        of(near_row, lambda: sources.diabetes(True)), (0.02, 0.005, 0.003, 0.03), 96, "epochs",
    ),
    "sentences": World(
        nets.Words, filed, pages, of(filed, lambda: bags(sources.sentences(True))),
        (0.5, 0.015, 0.008, 0.08), 90, "unpacked",
    ),
}  # fmt: skip
