"""Augmentation destroys what tells the target."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import roles
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.source import drawn_from, stored
from steepest.doctor.trial import better
from steepest.doctor.twin import Twin

TRIES = 6
"""Times that a loss is asked what it gives the model: a coin falls alike in a few of them."""


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

    The rows of batches are not those of the data set that the loader holds, or what the model is given is not what is
    in the batch: something changes them at random. A replay with the rows as they are stored, or come, gains more.
    """
    if lab.loss is None or lab.now < 25 or not lab.sick or lab.event is not None:
        return None
    change = _plain(lab)
    told = better(lab, change, 0.15) if change is not None else None
    if told is None:
        return None
    summary = (
        f"Rows are augmented until they hardly tell the target: with {told.change.name} the loss is "
        f"{told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, told.evidence, True)


def _plain(lab: Lab) -> Change | None:
    """Return the change that leaves rows as they are, None where they are so."""
    columns, part = stored(lab), roles(lab)
    if not part.known or part.target is None or part.target in part.inputs:
        return None
    if not part.inputs:
        return _in_the_loss(lab, part.target)
    place = part.inputs[0]
    own = list(tensors(lab.passes(1)[0].batch))[place]
    if columns is None or not own.is_floating_point() or _holds(columns[place], own):
        return None
    return Change("rows as they are stored", batch=drawn_from(columns))


def _in_the_loss(lab: Lab, target: int) -> Change | None:
    """Return the change that gives the model the rows of the batch; None unless the loss changes them at random."""
    of = lab.passes(1)[0]
    given = [_given(lab, replace(of, random={**of.random, "torch": _seeded(seed)})) for seed in range(TRIES)]
    first = given[0]
    if first is None or all(each is not None and torch.equal(each, first) for each in given):
        return None
    fits = [place for place, each in enumerate(tensors(of.batch)) if place != target and _fits(each, first)]
    if len(fits) != 1:
        return None
    now: list[Tensor] = []

    def note(batch: Any) -> Any:
        now[:] = [list(tensors(batch))[fits[0]]]
        return batch

    def instead(module: Any, args: tuple[Any, ...]) -> Any:
        return (now[0], *args[1:]) if now and args and isinstance(args[0], Tensor) and _fits(now[0], args[0]) else None

    return Change("rows as they come", prepare=lambda twin: _hook(twin, instead), batch=note)


def _hook(twin: Twin, instead: Any) -> None:
    twin.model.register_forward_pre_hook(instead)


def _fits(one: Tensor, other: Tensor) -> bool:
    return one.is_floating_point() and one.shape == other.shape and one.dtype == other.dtype


def _seeded(seed: int) -> Tensor:
    return torch.Generator().manual_seed(seed).get_state()


def _given(lab: Lab, of: Pass) -> Tensor | None:
    """Return what the model is given for a batch, with other random numbers."""
    found: list[Any] = []
    model = lab.twin()
    handle = model.register_forward_pre_hook(lambda module, args: found.extend(args[:1]))
    lab.ask(model, of)
    handle.remove()
    return found[0].detach() if len(found) == 1 and isinstance(found[0], Tensor) else None


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
