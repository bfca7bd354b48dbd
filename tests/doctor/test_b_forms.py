"""Faults of data in other forms than those of the demonstrations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor import watch


def network(inputs=8, outputs=3):
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def rows(count=400, inputs=8):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, inputs, generator=draw)
    return x, (x @ torch.randn(inputs, 3, generator=draw)).argmax(1)


def named(model, loss, batches, lr=5e-3, kind=torch.optim.Adam):
    """Train, and return the causes that are named."""
    optimizer = kind(model.parameters(), lr=lr)
    doctor = watch(model, optimizer, loss=loss)
    for batch in doctor(batches):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    found = doctor.findings
    doctor.close()
    assert not doctor.errors
    return [(each.cause, each.status) for each in found]


def entropy(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


def dicts(x, y, epochs=5, size=32):
    draw = torch.Generator().manual_seed(2)
    return [
        {"x": x[some], "y": y[some]}
        for _ in range(epochs)
        for some in torch.randperm(len(x), generator=draw).split(size)
    ]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_a_bad_value_in_a_dict():
    batches = dicts(*rows())
    batches[20]["x"][3, 1] = torch.inf
    assert named(network(), entropy, batches) == [("B01", "proven")]


def test_a_bad_value_that_the_loss_looks_up():
    x, y = rows()
    x = x.clone()
    x[200, 0] = torch.nan

    def loss(model, some):
        return F.cross_entropy(model(x[some]), y[some])

    found = named(network(), loss, [some for _ in range(3) for some in torch.arange(400).split(32)])
    assert found[:1] == [("B01", "proven")]


def test_series_far_from_zero():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.layer(x[..., None])[0][:, -1])

    x, y = rows(640)
    found = named(Reader(), entropy, dicts(300 + x, x[:, -2:].sum(1).gt(0).long() + 0 * y, 4), lr=1e-2)
    assert found[:1] == [("B02", "proven")]


def test_dicts_sorted_by_class():
    x, y = rows(960)
    order = y.argsort()
    batches = [{"x": x[some], "y": y[some]} for _ in range(2) for some in order.split(24)]
    assert named(network(), entropy, batches, 0.5, torch.optim.SGD)[:1] == [("B04", "proven")]


def test_labels_of_the_batch_before():
    x, y = rows(1200)
    y = x[:, 0].gt(0).long()
    batches = [(x[at : at + 30], y[at - 30 : at]) for at in range(30, 1170, 30)] * 2

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    assert named(network(), loss, batches)[:1] in ([("B05", "suspected")], [("B05", "proven")])


def test_labels_of_one_and_minus_one_in_a_loss_that_is_written_out():
    x, y = rows()

    def loss(model, batch):
        told = model(batch["x"])[:, 0].sigmoid().clamp(1e-6, 1 - 1e-6)
        return -(batch["y"] * told.log() + (1 - batch["y"]) * (1 - told).log()).mean()

    found = named(network(), loss, dicts(x, y.gt(0).float() * 2 - 1, 3))
    assert found[:1] == [("B07", "proven")]


def test_targets_beyond_a_sigmoid():
    x, _ = rows()

    def loss(model, batch):
        return F.mse_loss(model(batch["x"])[:, 0].sigmoid(), batch["y"])

    assert named(network(), loss, dicts(x, 5 + 3 * x[:, 0], 3))[:1] == [("B07", "proven")]
