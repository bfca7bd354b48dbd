"""Faults of data, of first weights and of structure: further forms of them, and healthy runs that look like them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor import watch


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def rows(count=480, inputs=8):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, inputs, generator=draw)
    return x, (x @ torch.randn(inputs, 3, generator=draw)).argmax(1)


def network(inputs=8, outputs=3, wide=32):
    return nn.Sequential(nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, outputs))


def shuffled(*columns, epochs=5, size=24):
    draw = torch.Generator().manual_seed(2)
    for _ in range(epochs):
        for some in torch.randperm(len(columns[0]), generator=draw).split(size):
            yield tuple(column[some] for column in columns)


def entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def counted(model, batch):
    return F.poisson_nll_loss(model(batch[0]).squeeze(-1), batch[1])


def events():
    x, _ = rows(720)
    log = 0.7 + 0.6 * x[:, 0] - 0.5 * x[:, 1] + 0.6 * x[:, 2] * x[:, 3]
    return x, torch.poisson(log.clamp(max=3.5).exp(), generator=torch.Generator().manual_seed(3))


def watched(model, loss, batches, optimizer=None, scheduler=None):
    """Train, and return the doctor."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=5e-3)
    doctor = watch(model, optimizer, loss=loss, scheduler=scheduler)
    for batch in doctor(batches):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    doctor.findings  # noqa: B018 - the last look is made
    doctor.close()
    assert not doctor.errors
    return doctor


def named(*args, **kwargs):
    """Train, and return the causes that are named."""
    return [each.cause for each in watched(*args, **kwargs).findings]


@pytest.mark.parametrize("zero", [True, False])
def test_a_model_of_zeros_hears_its_input_once_its_weights_are_others(zero):
    model = network(8, 1)
    for each in model.parameters() if zero else []:
        nn.init.zeros_(each)
    assert named(model, counted, shuffled(*events())) == (["C01"] if zero else [])


def test_the_constant_of_counts_and_how_far_their_loss_can_fall():
    doctor = watched(network(8, 1), counted, shuffled(*events()))
    y = events()[1]
    best = F.poisson_nll_loss(y.mean().log().expand(len(y)), y)
    assert doctor.lab.constant == pytest.approx(float(best), abs=0.1)
    assert 0.2 < doctor.lab.gain < 1  # and not many times what there is to gain, as from a first loss near 0


def test_words_that_do_not_count_are_no_class():
    x, y = rows()
    y = y.where(torch.arange(480) % 4 == 0, -100)
    doctor = watched(network(), entropy, shuffled(x, y))
    shares = torch.bincount(y[y >= 0]) / (y >= 0).sum()
    assert doctor.lab.constant == pytest.approx(float(-(shares * shares.log()).sum()), rel=0.02)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU())
        self.kind, self.amount = nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.kind(h), self.amount(h).squeeze(-1)


def both(model, batch):
    kind, amount = model(batch[0])
    return 2 * F.cross_entropy(kind, batch[1]) + F.mse_loss(amount, batch[2])


@pytest.mark.parametrize("size", [1.5, None])
def test_first_weights_of_unit_size_under_a_sum_of_two_losses(size):
    x, y = rows(720)
    model = TwoHeads()
    for each in model.parameters():
        if size is not None and each.ndim > 1:
            each.data = torch.randn(each.shape) * size
    doctor = watched(model, both, shuffled(x, y, x[:, 0].tanh()))
    assert [each.cause for each in doctor.findings] == (["C02"] if size else [])
    shares = torch.bincount(y) / len(y)
    wanted = float(-2 * (shares * shares.log()).sum() + x[:, 0].tanh().var())
    assert doctor.lab.constant == pytest.approx(wanted, rel=0.05)


def test_rows_class_by_class_are_no_run_that_was_taken_up_again():
    x, y = rows(960)
    order = y.argsort()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    batches = [(x[some], y[some]) for _ in range(2) for some in order.split(24)]
    assert named(model, entropy, batches, optimizer, schedule) == ["B04"]


def test_a_narrow_model_whose_loop_scales_its_losses_is_not_judged_by_the_scaled_ones():
    x, y = rows(600)
    model = network(8, 3, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    doctor = watch(model, optimizer, loss=entropy)
    for batch in doctor(shuffled(x, y)):
        optimizer.zero_grad()
        (entropy(model, batch) * 1024).backward()
        for each in model.parameters():
            each.grad /= 1024
        optimizer.step()
    assert not doctor.findings and not doctor.errors
    doctor.close()
