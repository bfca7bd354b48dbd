"""Controls: training as it is."""

from faults.case import Measure, Run, healthy
from faults.second.loops import train


@healthy(
    "cards Adam", "cells SGD", "hands RMSprop", "whistles AdamW", "molecules Adam", "islands AdamW", "strokes SGD",
    "essays Adagrad", "patients RMSprop", "visitors SGD", "sales Adagrad", "clicks SGD", "glyphs RMSprop",
    "regimes Adam", "picture AdamW", "claims SGD", "wine RMSprop", "diabetes Adam", "sentences Adagrad",
)  # fmt: skip
def as_it_is(run: Run) -> Measure:
    """The plain training of each world."""
    return train(run)
