"""Faults of a loop's code and of numerics in forms that were once missed, each beside the same program without it."""

from typing import Any

import pytest
import torch
from forms import Forms
from torch import Tensor, nn
from torch.nn import functional as F

from steepest.doctor.demo import demonstrate, entropy, squares, train

form = Forms()


def adam(model, lr=1e-2):
    return torch.optim.Adam(model.parameters(), lr=lr)


class Slope(torch.autograd.Function):
    """A hand-written function that is told something besides tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, right: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.right = right
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return grad * (gate + x * gate * (1 - gate) if ctx.right else gate), None


@form("A15")
def a_derivative_of_a_function_with_options(run):
    class Applied(nn.Module):
        def forward(self, x):
            return Slope.apply(x, not run.faulty)

    model = run.network()
    model[1] = Applied()
    train(run, model, adam(model), entropy, run.batches(run.classes(), 2))


@form("A07")
def one_of_two_losses_as_a_number(run):
    model = nn.ModuleDict({"body": nn.Linear(8, 24), "kind": nn.Linear(24, 3), "size": nn.Linear(24, 1)})

    def loss(model, batch):
        hidden = model["body"](batch[0]).relu()
        second = model["size"](hidden).square().mean()
        return F.cross_entropy(model["kind"](hidden), batch[1]) + (second.item() if run.faulty else second)

    train(run, model, adam(model), loss, run.batches(run.classes(), 2))


@form("A09")
def a_rate_that_may_be_negative(run):
    model = run.network(outputs=1)
    with torch.no_grad():
        model[-1].bias.fill_(1.0)
    x, y = run.numbers()

    def loss(model, batch):
        told = model(batch[0])
        return F.poisson_nll_loss(told if run.faulty else told.clamp(min=0.01), batch[1], log_input=False)

    train(run, model, adam(model), loss, run.batches((x, (3 + 2 * y).clamp(min=0).round()), 2))


@form("A10")
def a_sum_over_all_that_is_halved(run):
    model = run.network(outputs=6)

    def loss(model, batch):
        each = F.mse_loss(model(batch[0]), batch[1] * torch.ones(6), reduction="none")
        return each.sum() / 2 if run.faulty else each.mean()

    train(run, model, torch.optim.SGD(model.parameters(), lr=0.05), loss, run.batches(run.numbers(), 6))


class Recent(nn.Module):
    """A head on the state of a recurrent layer: the first one, or the last."""

    def __init__(self, first):
        super().__init__()
        self.layer, self.head, self.first = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 3), first

    def forward(self, x):
        state = torch.zeros(1, len(x), 16)
        _, last = self.layer(x.unsqueeze(-1), state)
        return self.head(state[0] if self.first else last[0])


@form("A18")
def the_state_before_anything_was_read(run):
    model = Recent(run.faulty)
    train(run, model, adam(model), entropy, run.batches(run.classes(), 2))


class Fields(nn.Module):
    """Two kinds of columns, each with a layer; those of one are joined to themselves, or to the others."""

    def __init__(self, one):
        super().__init__()
        self.left, self.right, self.out, self.one = nn.Linear(4, 12), nn.Linear(4, 12), nn.Linear(24, 3), one

    def forward(self, left, right):
        left, right = self.left(left).relu(), self.right(right).relu()
        return self.out(torch.cat([left, left if self.one else right], 1))


@form("A18")
def a_field_that_is_read_and_dropped(run):
    model = Fields(run.faulty)
    x, kinds = run.classes()
    data = [
        (a[:, :4].contiguous(), a[:, 4:].contiguous(), b) for a, b in zip(x.split(32), kinds.split(32), strict=True)
    ]

    def loss(model, batch):
        return F.cross_entropy(model(*batch[:2]), batch[2])

    train(run, model, adam(model), loss, 2 * data)


class Filling(nn.Module):
    """Says what is in a hole by the mean of the places that it sees: the holes, or the others."""

    def __init__(self, wrong):
        super().__init__()
        self.table, self.out, self.wrong = nn.Embedding(8, 16), nn.Linear(32, 7), wrong

    def forward(self, text):
        made, seen = self.table(text), ((text == 7) == self.wrong).unsqueeze(-1)
        mean = (made * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        return self.out(torch.cat([made, mean.expand_as(made)], -1))


@form("A18")
def holes_that_see_holes(run):
    model = Filling(run.faulty)
    draw = torch.Generator().manual_seed(1)
    text = (torch.randint(7, (256, 1), generator=draw) + torch.randint(2, (256, 8), generator=draw)) % 7
    hole = torch.rand(256, 8, generator=draw) < 0.3

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    rows = (text.masked_fill(hole, 7), text.masked_fill(~hole, -100))
    train(run, model, adam(model), loss, run.batches(rows, 2))


@form("A11")
def times_in_a_column_under_an_exponential(run):
    model = run.network(outputs=1)
    x, y = run.numbers()
    times, ends = (y - x[:, :1]).exp(), (x[:, 1:2] > 0).float().squeeze(1)

    def loss(model, batch):
        log = model(batch[0]).squeeze(1).clamp(-5, 5)
        time = batch[1] if run.faulty else batch[1].squeeze(1)
        return (time * log.exp() - batch[2] * log).mean()

    rows = list(zip(x.split(32), times.split(32), ends.split(32), strict=True))
    train(run, model, adam(model), loss, 2 * rows)


def a_kernel_of_all_pairs(run):
    """Samples are moved to others by the mean of a kernel over all pairs: order means nothing in either."""
    model = nn.Linear(1, 1)

    def near(one, other):
        return (-(one - other.squeeze(1)).square()).exp().mean()

    def loss(model, batch):
        made = model(batch[0])
        return near(made, made) - 2 * near(made, batch[1]) + near(batch[1], batch[1])

    data = (torch.randn(256, 1), 0.5 * torch.randn(256, 1) + 1)
    train(run, model, adam(model), loss, run.batches(data, 2))


class Filter(nn.Module):
    """Convolutions that see the past of a series, or both sides."""

    def __init__(self, both):
        super().__init__()
        self.one, self.two, self.pad = nn.Conv1d(1, 12, 3), nn.Conv1d(12, 1, 3), (1, 1) if both else (2, 0)

    def forward(self, x):
        hidden = self.one(F.pad(x.unsqueeze(1), self.pad)).relu()
        return self.two(F.pad(hidden, self.pad)).squeeze(1)


@form("A20")
def padded_on_both_sides_and_judged_late(run):
    model = Filter(run.faulty)
    draw = torch.Generator().manual_seed(1)
    waves = (6 * torch.rand(256, 1, generator=draw) + 0.7 * torch.arange(16)).sin()
    waves = waves + 0.1 * torch.randn(256, 16, generator=draw)

    def loss(model, batch):
        return F.mse_loss(model(batch[0][:, :-1])[:, 3:], batch[0][:, 4:])

    train(run, model, adam(model), loss, run.batches((waves, waves), 2))


class Speaker(nn.Module):
    """Says symbols one after the other, given those before."""

    def __init__(self):
        super().__init__()
        self.table, self.layer, self.out = nn.Embedding(8, 12), nn.GRU(12, 24, batch_first=True), nn.Linear(24, 7)

    def forward(self, before):
        return self.out(self.layer(self.table(before))[0])


@form("A20")
def what_is_to_be_said_is_not_shifted(run):
    model = Speaker()
    draw = torch.Generator().manual_seed(1)
    text = (torch.randint(7, (256, 1), generator=draw) + 3 * torch.arange(8)) % 7

    def loss(model, batch):
        before = batch[0] if run.faulty else F.pad(batch[0][:, :-1], (1, 0), value=7)
        return F.cross_entropy(model(before).flatten(0, 1), batch[0].flatten())

    train(run, model, adam(model), loss, run.batches((text, text), 2))


@form("A21")
def the_first_batch_of_a_new_iterator(run):
    model = run.network()
    rows = torch.utils.data.TensorDataset(*run.classes())
    loader = torch.utils.data.DataLoader(rows, 32)
    stream = iter([batch for _ in range(2) for batch in loader])
    train(run, model, adam(model), entropy, (next(iter(loader)) if run.faulty else next(stream) for _ in range(30)))


@form("A03")
def a_window_longer_than_the_data(run):
    model = run.network()
    optimizer = adam(model)
    doctor = run.watch(model, optimizer, entropy)
    for _ in range(6):
        for number, batch in enumerate(doctor(run.batches(run.classes(), 1)), 1):
            (entropy(model, batch) / 4).backward()
            if number % (20 if run.faulty else 4) == 0:
                optimizer.step()
                optimizer.zero_grad()


class Scaler:
    """Scales losses, and leaves out steps whose gradients are not finite as halves."""

    def __init__(self, scale):
        self.scale = scale

    def step(self, optimizer):
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"]]
        if all(bool(each.half().isfinite().all()) for each in gradients):
            for each in gradients:
                each.div_(self.scale)
            optimizer.step()


@form("A13")
def a_window_whose_passes_come_at_its_end(run):
    model = run.network(outputs=1)
    optimizer = adam(model)
    x, y = run.numbers()
    pieces = [(x[at : at + size], y[at : at + size] + (size == 4)) for at in range(0, 480, 40) for size in (36, 4)]
    window = []
    for piece in run.watch(model, optimizer, squares)(5 * pieces):
        window.append(piece)
        if len(window) == 2:
            optimizer.zero_grad()
            for each in window:
                (squares(model, each) * (0.5 if run.faulty else len(each[0]) / 40)).backward()
            optimizer.step()
            window = []


@form("A13")
def two_batches_in_one(run):
    model = run.network(outputs=1)
    optimizer = adam(model)
    x, y = run.numbers()
    pairs = [((x[at : at + 36], y[at : at + 36]), (x[at + 36 : at + 40], y[at + 36 : at + 40] + 1))
             for at in range(0, 480, 40)]  # fmt: skip
    for pair in run.watch(model, optimizer, squares)(5 * pairs):
        optimizer.zero_grad()
        for each in pair:
            (squares(model, each) * (0.5 if run.faulty else len(each[0]) / 40)).backward()
        optimizer.step()


@form("E02")
def a_scale_that_is_no_power_and_never_falls(run):
    model = run.network()
    optimizer = adam(model)
    scaler = Scaler(1e9 if run.faulty else 1e3)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 4)):
        optimizer.zero_grad()
        (entropy(model, batch) * scaler.scale).backward()
        scaler.step(optimizer)


@form("A24")
def statistics_that_were_not_saved(run):
    model = run.network()
    model.insert(1, nn.BatchNorm1d(32, momentum=0.05))
    fresh = {name: value.clone() for name, value in model.state_dict().items() if "running" in name or "num_" in name}
    optimizer = adam(model)
    x, kinds = run.classes()
    for step, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches((0.03 * x, kinds), 5))):
        if run.faulty and step == 56:
            model.load_state_dict({**model.state_dict(), **fresh})
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()


@form("E08")
def a_weight_is_written_over_and_no_number_is_left(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 5))):
        if run.faulty and step == 41:
            with torch.no_grad():
                model[2].weight[3, 2] = 1e38
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()


@pytest.mark.parametrize(("number", "program"), form)
def test_it_is_found(number, program):
    found, errors = demonstrate(program)
    assert [each.cause for each in found][:1] == [number]
    assert not errors


@pytest.mark.parametrize("program", [each.values[1] for each in form], ids=[each.id for each in form])
def test_nothing_is_said_without_it(program):
    assert demonstrate(program, faulty=False) == ([], [])


def a_model_that_gives_back_what_it_is_given(run):
    """An autoencoder of symbols: it is given what it is to give, by way of a summary."""
    model = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 56))
    text = (torch.randint(7, (256, 1)) + 3 * torch.arange(8)) % 7

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]).view(-1, 7), batch[0].flatten())

    train(run, model, adam(model), loss, run.batches((text, text), 2))


def a_reader_that_shifts_for_itself(run):
    """The model is given what it is to say, and looks only at what comes before."""

    class Shifting(Speaker):
        def forward(self, before):
            return super().forward(F.pad(before[:, :-1], (1, 0), value=7))

    model = Shifting()
    text = (torch.randint(7, (256, 1)) + 3 * torch.arange(8)) % 7

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[0].flatten())

    train(run, model, adam(model), loss, run.batches((text, text), 2))


@pytest.mark.parametrize(
    "program",
    [a_model_that_gives_back_what_it_is_given, a_reader_that_shifts_for_itself, a_kernel_of_all_pairs],
)
def test_what_looks_like_it_and_is_healthy(program):
    assert demonstrate(program, faulty=False) == ([], [])


def test_a_batch_that_the_loop_has_changed_is_not_a_weight_that_was():
    def program(run):
        model = run.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for step, (x, kinds) in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 6))):
            x = 50 * x if step == 45 else x
            optimizer.zero_grad()
            entropy(model, (x, kinds)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    found, errors = demonstrate(program)
    assert "E08" not in [each.cause for each in found]
    assert not errors


def test_statistics_that_are_estimated_anew_on_purpose_are_no_loss():
    def program(run):
        model = run.network()
        model.insert(1, nn.BatchNorm1d(32))
        optimizer = adam(model)
        data = list(run.batches(run.classes(), 1))
        doctor = run.watch(model, optimizer, entropy)
        for _ in range(5):
            for batch in doctor(data):
                optimizer.zero_grad()
                entropy(model, batch).backward()
                optimizer.step()
            model[1].reset_running_stats()
            with torch.no_grad():
                for batch in data[:8]:
                    model(batch[0])

    found, errors = demonstrate(program)
    assert "A24" not in [each.cause for each in found]
    assert not errors
