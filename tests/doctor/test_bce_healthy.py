"""Healthy programs that look like faults of data, weights or numerics: nothing is said of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor import watch


def rows(count=640):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, 8, generator=draw)
    return x, (x @ torch.randn(8, 3, generator=draw)).argmax(1)


def heard(model, loss, batches, lr=1e-2):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    doctor = watch(model, optimizer, loss=loss)
    for batch in doctor(batches):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    found = doctor.findings
    doctor.close()
    return [(each.cause, each.summary) for each in found], doctor.errors


def shuffled(*data, epochs=5):
    draw = torch.Generator().manual_seed(2)
    return [
        tuple(each[some] for each in data)
        for _ in range(epochs)
        for some in torch.randperm(len(data[0]), generator=draw).split(32)
    ]


def entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_raw_columns_behind_a_norm():
    x, y = rows()
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    units = torch.tensor([1.0, 1e3, 1e-2, 50, 1, 300, 0.1, 7])
    assert heard(model, entropy, shuffled(x * units + 40, y)) == ([], [])


def test_a_last_layer_of_zeros():
    x, y = rows()
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    nn.init.zeros_(model[2].weight)
    assert heard(model, entropy, shuffled(x, y)) == ([], [])


def test_missing_values_that_the_loss_fills_in():
    x, y = rows()
    x = torch.where(torch.rand(x.shape) < 0.1, torch.nan, x)

    def loss(model, batch):
        return F.cross_entropy(model(batch[0].nan_to_num(0.0)), batch[1])

    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
    assert heard(model, loss, shuffled(x, y, epochs=6)) == ([], [])


def test_two_columns_of_one_quantity_and_a_bottleneck():
    x, _ = rows()
    model = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))

    def loss(model, batch):
        return F.mse_loss(model(batch[0]), batch[0])

    x = torch.cat([x[:, :2], x[:, :2] @ torch.randn(2, 6)], 1)
    assert heard(model, loss, shuffled(x)) == ([], [])


def test_a_hidden_infinity_in_a_mask():
    x, y = rows()
    model = nn.ModuleDict({"mix": nn.Linear(1, 24), "head": nn.Linear(8, 3)})

    def loss(model, batch):
        q, k, v = model["mix"](batch[0][..., None]).chunk(3, -1)
        hidden = torch.ones(8, 8, dtype=torch.bool).triu(1)
        weights = (q @ k.transpose(1, 2) / 8**0.5).masked_fill(hidden, float("-inf")).softmax(-1)
        mixed = (weights @ v).mean(2) + batch[0]
        return F.cross_entropy(model["head"](mixed), batch[1])

    assert heard(model, loss, shuffled(x, y)) == ([], [])


def test_most_values_zero_and_all_units_alive():
    x, y = rows()
    model = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 3))
    model[0].bias.data -= 0.8
    assert heard(model, entropy, shuffled(x, y)) == ([], [])


def test_positive_losses_of_heavy_tails():
    x, _ = rows()
    draw = torch.Generator().manual_seed(3)
    noise = torch.distributions.StudentT(2.5).sample((640,)) if draw else x[:, 0]

    def loss(model, batch):
        return F.huber_loss(model(batch[0])[:, 0], batch[1])

    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    assert heard(model, loss, shuffled(x, 2 * x[:, 0] + 0.1 * noise, epochs=6)) == ([], [])
