"""Faults of numerics in other forms than those of the demonstrations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor import watch


def network():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))


def batches(count=60):
    draw = torch.Generator().manual_seed(1)
    made = torch.randn(8, 3, generator=draw)
    rows = torch.randn(32 * count, 8, generator=draw)
    return [(x, (x @ made).argmax(1)) for x in rows.split(32)]


def findings(model, loss, data, between=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    doctor = watch(model, optimizer, loss=loss)
    for step, batch in enumerate(doctor(data)):
        optimizer.zero_grad()
        loss(model, batch).backward()
        if between is not None:
            between(step, model)
        optimizer.step()
    found = doctor.findings
    doctor.close()
    assert not doctor.errors
    return found


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_an_average_over_no_rows():
    def loss(model, batch):
        good = batch[0][:, 0] > batch[0].new_tensor(-10)
        told = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return (told * good).sum() / good.sum()

    data = batches()
    data[25] = (data[25][0].clone(), data[25][1])
    data[25][0][:, 0] = -20
    (found, *_) = findings(network(), loss, data)
    assert (found.cause, found.status) == ("E05", "proven")
    assert "test_e_forms.py" in found.where


def test_a_softmax_over_nothing():
    def loss(model, batch):
        scores = model(batch[0]).masked_fill(batch[2], float("-inf"))
        return (scores.softmax(1) * model(batch[0])).sum(1).mean() * 0 + F.cross_entropy(model(batch[0]), batch[1])

    data = [(x, y, torch.zeros(len(x), 3, dtype=torch.bool)) for x, y in batches(40)]
    data[12][2][5] = True
    (found, *_) = findings(network(), loss, data)
    assert found.cause == "E05"


def test_where_with_a_root_of_what_may_be_negative():
    def loss(model, batch):
        made = model(batch[0])
        root = torch.where(made > 0, made.sqrt(), torch.zeros_like(made))
        return F.cross_entropy(made, batch[1]) + 0.01 * root.mean()

    (found, *_) = findings(network(), loss, batches(20))
    assert (found.cause, found.status) == ("E06", "proven")


def test_one_infinite_entry_is_spread_by_clipping():
    def clip(step, model):
        if step == 20:
            next(model.parameters()).grad[0, 0] = torch.inf
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    assert findings(network(), loss, batches(30), clip)[0].cause == "E07"


def test_half_precision_overflows_in_autocast():
    def loss(model, batch):
        with torch.autocast("cpu", dtype=torch.float16):
            made = model(batch[0] * batch[2])
            return F.cross_entropy(made.float() / batch[2], batch[1])

    data = [(x, y, torch.tensor(1.0 if at != 15 else 3e5)) for at, (x, y) in enumerate(batches(30))]
    (found, *_) = findings(network(), loss, data)
    assert (found.cause, found.status) == ("E03", "proven")
