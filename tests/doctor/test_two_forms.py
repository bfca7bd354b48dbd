"""Faults of data, of first weights and of structure: further forms of them, and healthy runs that look like them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor import watch
from steepest.doctor.causes.c09_sharp_attention import _Scores
from steepest.doctor.redrawn import rescaled


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def rows(count=384, inputs=8):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, inputs, generator=draw)
    return x, (x @ torch.randn(inputs, 3, generator=draw)).argmax(1)


def network(inputs=8, outputs=3, wide=32):
    return nn.Sequential(nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, outputs))


def shuffled(*columns, epochs=4, size=24):
    draw = torch.Generator().manual_seed(2)
    for _ in range(epochs):
        for some in torch.randperm(len(columns[0]), generator=draw).split(size):
            yield tuple(column[some] for column in columns)


def entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def counted(model, batch):
    return F.poisson_nll_loss(model(batch[0]).squeeze(-1), batch[1])


def events():
    x, _ = rows(600)
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
    y = y.where(torch.arange(384) % 4 == 0, -100)
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
    x, y = rows(600)
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
    assert not doctor.findings
    assert not doctor.errors
    doctor.close()


class Deep(nn.Module):
    """Layers that add to a stream."""

    def __init__(self, pace, depth=8):
        super().__init__()
        self.lift, self.head, self.pace = nn.Linear(8, 24), nn.Linear(24, 3), pace
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(depth))

    def forward(self, x):
        h = self.lift(x)
        for layer in self.layers:
            h = h + self.pace * layer(h).relu()
        return self.head(h)


@pytest.mark.parametrize("pace", [4.0, 0.3])
def test_a_stream_that_doubles_from_layer_to_layer(pace):
    model = Deep(pace)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert named(model, entropy, shuffled(*rows()), optimizer)[:1] == (["C04"] if pace > 1 else [])


class Loop(nn.Module):
    """A recurrent network that is written out."""

    def __init__(self, gain):
        super().__init__()
        self.enter, self.again, self.leave = nn.Linear(1, 20), nn.Linear(20, 20, bias=False), nn.Linear(20, 1)
        nn.init.orthogonal_(self.again.weight, gain)

    def forward(self, x):
        h = torch.zeros(len(x), 20)
        for place in range(x.shape[1]):
            h = (self.enter(x[:, place, None]) + self.again(h)).relu()
        return self.leave(h)[:, 0]


def squares(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("gain", [2.2, 0.9])
def test_a_recurrence_that_is_written_out_and_grows(gain):
    x, _ = rows(inputs=12)
    found = named(Loop(gain), squares, shuffled(x, x[:, -2:].sum(1)))
    assert found == (["C04"] if gain > 1 else [])


class Positive(nn.Module):
    """Gives numbers that a ReLU has been put behind, or not."""

    def __init__(self, bias, cut):
        super().__init__()
        self.net, self.cut = network(8, 1), cut
        nn.init.constant_(self.net[-1].bias, bias)

    def forward(self, x):
        y = self.net(x).squeeze(-1)
        return y.relu() if self.cut else y


@pytest.mark.parametrize(("bias", "cut", "said"), [(-2.0, True, ["C05"]), (-2.0, False, []), (2.0, True, [])])
def test_a_dead_unit_at_the_output(bias, cut, said):
    x, _ = rows(600)
    assert named(Positive(bias, cut), squares, shuffled(x, 1 + x[:, 0].tanh())) == said


@pytest.mark.parametrize("deviation", [1e-3, None])
def test_tiny_weights_under_a_loss_of_counts(deviation):
    model = network(8, 1)
    model[1], model[3] = nn.SiLU(), nn.SiLU()
    for each in model.parameters():
        if deviation and each.ndim > 1:
            nn.init.normal_(each, std=deviation)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    assert named(model, counted, shuffled(*events()), optimizer) == (["C03"] if deviation else [])


def test_all_weights_alike_that_come_apart_by_rounding():
    x, _ = rows(720)
    model = network(8, 1)
    for each in model.parameters():
        if each.ndim > 1:
            nn.init.constant_(each, 0.05)
    y = x[:, 0] * x[:, 1] + (2 * x[:, 2]).sin()
    assert named(model, lambda m, b: F.mse_loss(m(b[0])[:, 0], b[1]), shuffled(x, y, epochs=6)) == ["C01"]


def test_branches_that_begin_at_zero_are_well():
    class Branched(Deep):
        def __init__(self):
            super().__init__(1.0, 4)
            for layer in self.layers:
                nn.init.zeros_(layer.weight)

        def forward(self, x):
            h = self.lift(x)
            for layer in self.layers:
                h = h + layer(h.relu())
            return self.head(h)

    assert named(Branched(), entropy, shuffled(*rows())) == []


def test_columns_sorted_by_themselves_where_losses_are_divided():
    x, y = rows(576)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[x[:, 2].argsort()], y), 24, shuffle=True)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    doctor = watch(model, optimizer, loss=entropy)
    for _ in range(3):
        for number, batch in enumerate(doctor(batches), 1):
            (entropy(model, batch) / 2).backward()
            if number % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()
    assert [each.cause for each in doctor.findings] == ["B05"]
    assert not doctor.errors
    doctor.close()


@pytest.mark.parametrize("spoilt", [0, 4])
def test_a_value_that_stands_for_none_is_not_far_out_and_always_the_same(spoilt):
    x, _ = rows(480)
    y = x[:, 0].tanh() + 0.1 * torch.randn(480, generator=torch.Generator().manual_seed(4))
    y[torch.randperm(480, generator=torch.Generator().manual_seed(5))[:spoilt]] = 20.0
    model = network(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    found = named(model, lambda m, b: F.mse_loss(m(b[0])[:, 0], b[1]), shuffled(x, y), optimizer)
    assert found == (["B12"] if spoilt else [])


@pytest.mark.parametrize("heard", [False, True])
def test_pairs_whose_labels_are_not_heard(heard):
    x, y = rows(480)
    other = x.roll(1, 0)
    same = (y == y.roll(1)).float()

    def pull(model, batch):
        gap = ((model(batch[0]) - model(batch[1])).square().sum(1) + 1e-6).sqrt()
        alike = batch[2] if heard else torch.ones_like(batch[2])
        return (alike * gap**2 + (1 - alike) * F.relu(1.5 - gap) ** 2).mean()

    assert named(network(8, 4), pull, shuffled(x, other, same)) == ([] if heard else ["C11"])


class Reader(nn.Module):
    """Tokens -> logits of what was in each place: itself and its neighbours are seen."""

    def __init__(self, kinds=9):
        super().__init__()
        self.tokens, self.mix, self.leave = nn.Embedding(kinds, 24), nn.Linear(72, 48), nn.Linear(48, kinds)

    def forward(self, x):
        h = self.tokens(x)
        return self.leave(self.mix(torch.cat([h.roll(1, 1), h, h.roll(-1, 1)], 2)).relu())


@pytest.mark.parametrize("counted_too", [True, False])
def test_places_that_do_not_count_and_are_a_class(counted_too):
    draw = torch.Generator().manual_seed(6)
    text = (torch.randint(8, (384, 1), generator=draw) + torch.arange(10)) % 8
    hole = torch.rand(384, 10, generator=draw) < 0.25
    labels = text.where(hole, torch.tensor(0 if counted_too else -100))

    def fill(model, batch):
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    batches = shuffled(text.masked_fill(hole, 8), labels)
    assert named(Reader(), fill, batches) == (["B07"] if counted_too else [])


@pytest.mark.parametrize("turned", [True, False])
def test_pictures_that_the_loss_turns_though_directions_are_asked_for(turned):
    draw = torch.Generator().manual_seed(7)
    kinds = torch.randint(4, (384,), generator=draw)
    x = torch.zeros(384, 1, 6, 6)
    for row, kind in enumerate(kinds.tolist()):
        x[row, 0, :, int(torch.randint(2, (1,), generator=draw))] = 1.0
        x[row] = x[row].rot90(kind, (1, 2))
    x = x + 0.3 * torch.randn(x.shape, generator=draw)

    def loss(model, batch):
        given = batch[0] + 0.1 * torch.randn_like(batch[0])
        return F.cross_entropy(model(given.rot90(int(torch.randint(4, ())), (2, 3)) if turned else given), batch[1])

    model = nn.Sequential(nn.Flatten(), network(36, 4))
    assert named(model, loss, shuffled(x, kinds)) == (["B13"] if turned else [])


@pytest.mark.parametrize("forgotten", [True, False])
def test_targets_that_a_shuffle_leaves_behind_from_the_third_epoch_on(forgotten):
    x, _ = rows(600)
    y = x[:, 0] * x[:, 1] + (2 * x[:, 2]).sin()

    def batches():
        told, draw = y, torch.Generator().manual_seed(8)
        for epoch in range(6):
            if forgotten and epoch > 1:
                told = told[torch.randperm(600, generator=draw)]
            for some in torch.randperm(600, generator=draw).split(25):
                yield x[some], told[some]

    found = watched(network(8, 1), lambda m, b: F.mse_loss(m(b[0])[:, 0], b[1]), batches()).findings
    assert [(each.cause, each.onset) for each in found] == ([("B05", 48)] if forgotten else [])


def test_targets_that_are_drawn_anew_each_time_are_not_of_other_rows():
    x, y = rows(384)

    def batches():
        for some in torch.arange(384).repeat(5).split(24):
            yield x[some], y[some].where(torch.rand(24) < 0.4, torch.randint(3, (24,)))

    assert "B05" not in named(network(), entropy, batches())


@pytest.mark.parametrize("loud", [20.0, 1.0])
def test_attention_within_a_layer_of_torch_that_is_all_or_nothing(loud):
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(2, 16), nn.Linear(16, 3)
            self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
            self.block.self_attn.in_proj_weight.data[:32] *= loud

        def forward(self, x):
            places = torch.linspace(-1, 1, 8).expand(len(x), 8)
            return self.leave(self.block(self.enter(torch.stack([x, places], 2)))[:, 0])

    x, _ = rows(600)
    scores = _Scores(float("inf"))
    with scores:
        Bag()(x)
    assert len(scores.sizes) == 1
    assert (scores.sizes[0] > 6) == (loud > 1)
    assert nn.functional.scaled_dot_product_attention is torch._C._nn.scaled_dot_product_attention


def test_what_is_frozen_is_not_redrawn_in_a_replay():
    model = network()
    for each in model[0].parameters():
        each.requires_grad_(False)
    before = model[0].weight.clone()
    doctor = watched(model, entropy, shuffled(*rows(), epochs=1))
    twin = doctor.lab.start.copy()
    rescaled(doctor.lab).prepare(twin)
    assert torch.equal(twin.model[0].weight, before)
    assert not torch.equal(twin.model[2].weight, model[2].weight)


@pytest.mark.parametrize(("kind", "replays"), [(torch.optim.Adam, True), (torch.optim.LBFGS, False)])
def test_a_closure_that_is_called_once_can_be_replayed(kind, replays):
    model = network()
    optimizer = kind(model.parameters(), lr=5e-3)
    doctor = watch(model, optimizer, loss=entropy)
    for batch in doctor(shuffled(*rows(), epochs=1)):

        def closure(batch=batch):
            optimizer.zero_grad()
            value = entropy(model, batch)
            value.backward()
            return value

        optimizer.step(closure)
    assert doctor.lab.licence() == replays
    assert not doctor.findings
    assert not doctor.errors
    doctor.close()
