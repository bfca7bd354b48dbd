"""The same rows are there many times."""

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, STATISTIC, Found, cause
from steepest.doctor.data import roles, rows
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.source import stored

SHARE, LEAST = 0.5, 4
"""Share of rows that are copies; numbers that a row has to have for copies to be no chance."""

TOGETHER = 0.3
"""Share of rows in a batch that have a copy in it."""


@cause(
    "B11",
    "duplicate-rows",
    fix="Remove copies before the data are split, and see whether a join has multiplied them.",
    when=MARK,
    weight=STATISTIC,
    masks="A21 D15 D20 D21",
)
def duplicate_rows(lab: Lab) -> Found | None:
    """The training loss falls to nothing, and validation soon gets worse: there are few different rows.

    More than half of the rows of the data set are copies of others. Where the data set cannot be seen, many rows of
    single batches are.
    """
    passes = lab.passes(20)
    if len(passes) < 3:
        return None
    part = roles(lab)
    columns = stored(lab)
    place = part.inputs[0] if part.inputs else 0
    if columns is not None and place < len(columns):
        share = _copies(columns[place])
        if share is None or share < SHARE:
            return None
        distinct = round((1 - share) * len(columns[place]))
        summary = f"Of {len(columns[place])} rows only {distinct} differ; the others are copies."
        return Found(summary, {"rows": len(columns[place]), "different": distinct})
    shares = [_copies(list(tensors(of.batch))[place]) for of in passes if (rows(of.batch) or 0) >= 8]
    known = [each for each in shares if each is not None]
    if len(known) < 3 or sum(known) / len(known) < TOGETHER:
        return None
    return Found(f"Of the rows in a batch {sum(known) / len(known):.0%} are copies of others in it.")


def _copies(value: Tensor) -> float | None:
    """Return the share of rows that are copies of earlier ones; None where equal rows could be chance."""
    flat = value.detach().reshape(len(value), -1)[:20000]
    if flat.shape[1] < LEAST or len(flat) < 8:
        return None
    moving = flat[:, (flat != flat[0]).any(0)]
    values = 0 if not moving.shape[1] else len(moving[:500].unique())
    if moving.shape[1] < LEAST or values < 8 or (not value.is_floating_point() and moving.shape[1] < 8):
        return None
    return 1 - len(torch.unique(moving, dim=0)) / len(moving)


def demo(run: Demo) -> None:
    """Forty rows, each many times."""
    model = run.network()
    x, kinds = run.classes()
    some = torch.arange(len(x)) % (40 if run.faulty else len(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    data = torch.utils.data.TensorDataset(x[some], kinds[some])
    doctor = run.watch(model, optimizer, entropy)
    for _ in range(4):
        for batch in doctor(torch.utils.data.DataLoader(data, 32, shuffle=True)):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
