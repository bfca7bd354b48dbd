"""Targets belong to other rows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, REPLAYED, STATISTIC, Found, cause
from steepest.doctor.data import filled, roles
from steepest.doctor.demo import Demo, squares
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import FORK, Lab
from steepest.doctor.replay import AS_IT_WAS, Change
from steepest.doctor.source import drawn_from, is_classes, latest, pairs, skill, stored
from steepest.doctor.trial import SHORT, better
from steepest.doctor.twin import Twin

MOST = 1200
"""Rows whose distances are computed."""

FIX = "Join inputs and targets by a key, and shuffle both by the same permutation."


@cause("B05", "labels-of-other-rows", fix=FIX, when=MARK, weight=REPLAYED, masks="B06 C D")
def labels_shifted(lab: Lab) -> Found | None:
    """The loss stays that of a constant, or falls only as far as rows can be learned by heart.

    The nearest rows say nothing of a row's target, and much of the target that lies some rows before or after, in the
    data set or in the stream of batches. A replay with the targets moved back learns.
    """
    if lab.loss is None or lab.now < 20 or not lab.sick or lab.constant is None:
        return None
    found = _shift(lab, stored(lab), (-3, -2, -1, 1, 2, 3))
    if found is not None:
        return _in_data(lab, *found)
    size = len(next(tensors(lab.passes(1)[0].batch), torch.zeros(1)))
    found = _shift(lab, latest(lab), (-2 * size, -size, -1, 1, size, 2 * size))
    return _in_stream(lab, *found) if found is not None else None


def _shift(lab: Lab, columns: list[Tensor] | None, shifts: Sequence[int]) -> tuple[int, float, float] | None:
    """Return the shift at which neighbours agree, and how well they do with it and without."""
    both = pairs(lab, None if columns is None else [each[-MOST:] for each in columns])
    if both is None:
        return None
    own, *others = skill(*both, (0, *shifts))
    best = max(range(len(others)), key=others.__getitem__)
    near = own > 0.1 or others[best] < 0.3 or own > 0.4 * others[best]
    return None if near else (shifts[best], others[best], own)


def _in_data(lab: Lab, shift: int, with_it: float, own: float) -> Found | None:
    columns, part = stored(lab), roles(lab)
    if columns is None or part.target is None:
        return None
    mended = [each.roll(shift, 0) if place == part.target else each for place, each in enumerate(columns)]
    told = better(lab, Change("targets moved back", batch=drawn_from(mended)))
    summary = (
        f"Targets are those of rows {abs(shift)} {'after' if shift < 0 else 'before'}: neighbours tell the target of "
        f"that row ({with_it:.2f} of all that can be told), and not their own ({own:.2f})."
    )
    evidence = {"shift": shift, "told with it": with_it, "told without": own, **(told.evidence if told else {})}
    return Found(summary, evidence, told is not None, weight=None if told else STATISTIC)


def _in_stream(lab: Lab, shift: int, with_it: float, own: float) -> Found | None:
    """Ask the model itself, with the rows of the latest batches joined anew."""
    columns, part = latest(lab), roles(lab)
    if columns is None or part.target is None:
        return None
    of, model = lab.passes(1)[0], lab.twin()
    losses = []
    for moved in (0, shift):
        joined = [(each.roll(moved, 0) if place == part.target else each)[-400:] for place, each in enumerate(columns)]
        losses.append(float(lab.ask(model, of, filled(of.batch, joined)).detach()))
    proven = losses[1] < 0.6 * losses[0]
    summary = f"Targets are out of step with inputs, by {abs(shift)} rows of the stream, in the latest batches."
    evidence = {"shift": shift, "loss": losses[0], "loss moved back": losses[1], "told": with_it, "told without": own}
    return Found(summary, evidence, proven, weight=None if proven else STATISTIC)


@cause("B05", "labels-of-other-rows", fix=FIX, when=MARK, weight=STATISTIC, masks="B06")
def labels_shuffled(lab: Lab) -> Found | None:
    """The loss stays that of a constant, or falls only as far as rows can be learned by heart.

    After a hundred batches the loss is that of the best constant, the nearest rows tell nothing of a row's target, and
    no column has to do with it.
    """
    if lab.loss is None or lab.now < 30 or lab.constant is None or lab.event is not None:
        return None
    fresh = lab.history.losses[5 : min(lab.now, 35)]
    if sum(fresh) / len(fresh) < 0.95 * lab.constant:
        return None
    both = pairs(lab, stored(lab) or latest(lab))
    if both is None or len(both[0]) < 300:
        return None
    x, y = both[0][:MOST], both[1][:MOST]
    if any(len(column.unique()) <= 3 for column in x[:, x.std(0) > 1e-12].T) or not x.std(0).any():
        return None
    told = skill(x, y)[0]
    if told > 0.05 or _tells(x, y) > 5 / len(x) ** 0.5:
        return None
    summary = f"Inputs say nothing of the targets: the nearest of {len(x)} rows tell {told:.2f} of what can be told."
    return Found(summary, {"rows": len(x), "told": told})


OTHERS, KNOWN, LEARNS = 0.5, 100, 0.7
"""Share of rows with other targets than before, of what chance would leave; rows that have come before; and part of
the loss as it is, below which that with the first targets falls."""


@cause("B05", "labels-of-other-rows", fix=FIX, when=MARK, weight=REPLAYED + 0.9, masks="B06 C D")
def labels_left_behind(lab: Lab) -> Found | None:
    """What had been learned is lost, and the loss goes up to that of a constant.

    From a certain batch on rows that have come before, the same to the last bit, have other targets, which are those
    of other rows; until then each had kept its own. Training goes on better with the targets that rows had first.
    """
    part = roles(lab)
    if lab.loss is None or not part.known or part.target is None or len(part.inputs) != 1 or part.target in part.inputs:
        return None
    joined = _Joined(part.inputs[0], part.target)
    updates = {each.step: each for each in (*lab.history.first, *lab.history.latest)}
    passes = {each.of.number: each.of for update in updates.values() for each in update.backwards}
    onset, apart = joined.read([passes[number] for number in sorted(passes)])
    some = [updates[step] for step in sorted(updates) if updates[step].backwards]
    some = [each for each in some if onset is not None and each.backwards[0].of.number >= onset][-FORK:]
    if onset is None or len(some) < SHORT or not lab.licence():
        return None
    now = Twin.of(lab.model, lab.optimizer, lab.now, lab.modes)
    mend = Change("targets that rows had first", batch=joined.mended)
    told, mended = (lab.go_on(now, some, each).late() for each in (AS_IT_WAS, mend))
    if not mended < LEARNS * told:
        return None
    summary = (
        f"From batch {onset} on, {apart:.0%} of the rows that came before have the targets of other rows; with their "
        f"first ones the loss falls to {mended:.3g} where it is {told:.3g}."
    )
    return Found(summary, {"batch": onset, "rows": apart, "loss": told, "loss with first ones": mended}, True, onset)


class _Joined:
    """Knows the target that each row had first. place, target: of inputs and targets in a batch."""

    def __init__(self, place: int, target: int) -> None:
        self.place, self.target = place, target
        self.first: dict[bytes, Tensor] = {}

    def read(self, passes: Sequence[Pass]) -> tuple[int | None, float]:
        """Return the batch from which on rows have targets of others, None where they have not, and the share."""
        counts: list[tuple[int, int, int]] = []
        for of in passes:
            own = list(tensors(of.batch))
            if len(own[self.place]) != len(own[self.target]) or own[self.target].numel() != len(own[self.target]):
                return None, 0.0
            keys, told = self._keys(own), own[self.target].detach().reshape(-1)
            known = [row for row, key in enumerate(keys) if key in self.first]
            others = sum(bool(self.first[keys[row]] != told[row]) for row in known)
            counts.append((of.number, len(known), others))
            for key, value in zip(keys, told, strict=True):
                self.first.setdefault(key, value)
        return self._onset(counts)

    def _onset(self, counts: list[tuple[int, int, int]]) -> tuple[int | None, float]:
        """Where targets are redrawn all the time, and where they are as they were, there is no such batch."""
        if not self.first:
            return None, 0.0
        _, sizes = torch.stack(list(self.first.values())).unique(return_counts=True)
        chance = 1 - float((sizes / sizes.sum()).square().sum())
        onset = next((number for number, known, others in counts if others > OTHERS * chance * known), None)
        before = [each for each in counts if onset is None or each[0] < onset]
        after = [each for each in counts if onset is not None and each[0] >= onset]
        kept, lost = (tuple(sum(each[at] for each in some) for at in (1, 2)) for some in (before, after))
        if kept[0] < KNOWN or kept[1] > 0.02 * kept[0] or lost[0] < KNOWN or lost[1] < OTHERS * chance * lost[0]:
            return None, 0.0
        return onset, lost[1] / lost[0]

    def _keys(self, own: list[Tensor]) -> list[bytes]:
        return [row.numpy().tobytes() for row in own[self.place].detach().cpu().float().contiguous()]

    def mended(self, batch: Any) -> Any:
        """Return a batch with first targets."""
        own = list(tensors(batch))
        told = own[self.target].reshape(-1)
        found = torch.stack([self.first.get(key, value) for key, value in zip(self._keys(own), told, strict=True)])
        own[self.target] = found.reshape(own[self.target].shape)
        return filled(batch, own)


def _tells(x: Tensor, y: Tensor) -> float:
    """Return the largest correlation of a column with the target, or with a class."""
    wanted = torch.nn.functional.one_hot(y.long() - y.long().min()).double() if is_classes(y) else y.double()[:, None]
    x, wanted = (each - each.mean(0) for each in (x, wanted))
    sizes = x.norm(dim=0)[:, None] * wanted.norm(dim=0) + 1e-12
    return float((x.T @ wanted / sizes).abs().max())


def demo(run: Demo) -> None:
    """Targets are joined one row late."""
    model = run.network(8, 1)
    x, y = run.numbers()
    rows = torch.utils.data.TensorDataset(x, y.roll(1, 0) if run.faulty else y)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    doctor = run.watch(model, optimizer, squares)
    for _ in range(6):
        for batch in doctor(torch.utils.data.DataLoader(rows, 32, shuffle=True)):
            optimizer.zero_grad()
            squares(model, batch).backward()
            optimizer.step()
