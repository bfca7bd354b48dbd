"""Augmentation destroys what tells the target."""

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import roles
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.source import drawn_from, stored
from steepest.doctor.trial import better


@cause(
    "B13",
    "augmented-away",
    fix="Look at augmented rows: could you tell their target? Weaken or drop the transformation that you could not.",
    when=MARK,
    weight=REPLAYED,
    masks="B05 B06 C D",
)
def augmented_away(lab: Lab) -> Found | None:
    """The training loss has a floor, far above that of the model without augmentation.

    The rows of batches are not those of the data set that the loader holds: something changes them. A replay with the
    rows as they are stored gains more.
    """
    if lab.loss is None or lab.now < 25 or not lab.sick or lab.event is not None:
        return None
    columns, part = stored(lab), roles(lab)
    if columns is None or not part.known or part.target is None or not part.inputs or part.target in part.inputs:
        return None
    place = part.inputs[0]
    own = list(tensors(lab.passes(1)[0].batch))[place]
    if not own.is_floating_point() or _holds(columns[place], own):
        return None
    told = better(lab, Change("rows as they are stored", batch=drawn_from(columns)), 0.15)
    if told is None:
        return None
    summary = (
        f"Rows are augmented until they hardly tell the target: with the stored ones the loss is {told.changed:.3g} "
        f"where it is {told.base:.3g}."
    )
    return Found(summary, told.evidence, True)


def _holds(stored_rows: Tensor, own: Tensor) -> bool:
    """Return whether any of a few rows is stored as it is."""
    flat = stored_rows.reshape(len(stored_rows), -1)
    return any(bool((flat == each.reshape(-1)).all(1).any()) for each in own[:4])


class _Noisy:
    """Gives out batches of rows with noise on them."""

    def __init__(self, data: tuple[Tensor, Tensor], noise: float) -> None:
        self.data, self.noise = data, noise

    def __iter__(self):  # noqa: ANN204
        for some in torch.randperm(len(self.data[0])).split(32):
            yield self.data[0][some] + self.noise * torch.randn(len(some), 8), self.data[1][some]


def demo(run: Demo) -> None:
    """Noise six times as strong as the signal."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    doctor = run.watch(model, optimizer, entropy)
    for _ in range(6):
        for batch in doctor(_Noisy(run.classes(), 6.0 if run.faulty else 0.1)):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
