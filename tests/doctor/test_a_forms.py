"""Further forms of faults in a loop's code: each is named first."""

import pytest
import torch
from forms import Forms
from torch import nn
from torch.nn import functional as F

from steepest.doctor.demo import demonstrate, entropy, train

form = Forms()


@form("A01")
def only_one_group_is_cleared(run):
    model = run.network()
    optimizer = torch.optim.SGD([{"params": model[:2].parameters()}, {"params": model[2:].parameters()}], lr=0.05)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 2)):
        for parameter in model[2:].parameters():
            parameter.grad = None
        entropy(model, batch).backward()
        optimizer.step()


@form("A02")
def cleared_by_the_clipping_helper(run):
    model = run.network()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 2)):
        entropy(model, batch).backward()
        model.zero_grad()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@form("A03")
def stepped_after_the_epoch_was_cleared(run):
    model = run.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    doctor = run.watch(model, optimizer, {"loss": entropy}["loss"])
    for _ in range(3):
        for batch in doctor(run.batches(run.classes(), 1)):
            model.zero_grad()
            entropy(model, batch).backward()
    return


@form("A04")
def head_outside_of_the_list(run):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.begin, self.heads = nn.Linear(8, 32), {"classes": nn.Linear(32, 3)}

        def forward(self, x):
            return self.heads["classes"](self.begin(x).relu())

    model = Net()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes(), 2))


@form("A05")
def weight_set_anew(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for layer in (model[0], model[2], model[4]):
        layer.weight = nn.Parameter(layer.weight.detach() * 1.1)
    train(run, model, optimizer, entropy, run.batches(run.classes(), 2))


@form("A06")
def begun_without_gradients(run):
    model = run.network()

    def loss(model, batch):
        with torch.no_grad():
            hidden = model[:4](batch[0])
        return F.cross_entropy(model[4:](hidden), batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-3), loss, run.batches(run.classes(), 2))


@form("A07")
def the_sign_of_hidden_values(run):
    model = run.network()

    def loss(model, batch):
        return F.cross_entropy(model[2:](torch.sign(model[:1](batch[0]))), batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes(), 2))


@form("A08")
def squashed_by_hand(run):
    model = run.network()

    def loss(model, batch):
        scores = model(batch[0]).exp()
        return F.cross_entropy(scores / scores.sum(1, keepdim=True), batch[1])

    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1), loss, run.batches(run.classes(), 2))


@form("A09")
def the_score_of_the_right_class(run):
    model = run.network()

    def loss(model, batch):
        return -model(batch[0]).gather(1, batch[1][:, None]).mean()

    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1), loss, run.batches(run.classes(), 2))


@form("A10")
def summed_by_hand(run):
    model = run.network(outputs=1)

    def loss(model, batch):
        return (model(batch["x"]) - batch["y"]).square().sum()

    batches = ({"x": x, "y": y} for x, y in run.batches(run.numbers(), 4))
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1), loss, batches)


@form("A11")
def by_torchs_loss(run):
    model = run.network(outputs=1)

    def loss(model, batch):
        return F.smooth_l1_loss(model(batch[0]).squeeze(1), batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.numbers(), 2))


@form("A12")
def pieces_of_a_batch(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for x, y in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 4)):
        optimizer.zero_grad()
        for piece in zip(x.chunk(8), y.chunk(8), strict=True):
            entropy(model, piece).backward()
        optimizer.step()


@form("A14")
def negative_criterion_in_the_loss(run):
    model = run.network()
    train(
        run, model, torch.optim.Adam(model.parameters(), lr=1e-2), lambda model, batch: -entropy(model, batch),
        run.batches(run.classes(), 2),
    )  # fmt: skip


@form("A16")
def after_a_validation_in_the_loop(run):
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for index, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 3))):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
        if index == 10:
            model.eval()
            with torch.no_grad():
                entropy(model, run.classes())


@form("A18")
def multiplied_by_a_mask_of_zeros(run):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = run.network()
            self.register_buffer("mask", torch.zeros(8))

        def forward(self, x):
            return self.net(x * self.get_buffer("mask"))

    model = Net()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes(), 2))


@form("A19")
def attention_over_the_batch(run):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.net = nn.MultiheadAttention(8, 2), run.network()

        def forward(self, x):
            return self.net(self.mix(x[:, None], x[:, None], x[:, None])[0][:, 0])

    model = Net()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes(), 2))


@form("A21")
def targets_kept_from_before(run):
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    kept = next(run.batches(run.classes()))[1]
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 2)):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), kept).backward()
        optimizer.step()


@form("A24")
def statistics_left_behind(run):
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    for step in fresh_steps(model, run, 6):
        step()
    trained, model = model, nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    model.load_state_dict(dict(trained.named_parameters()), strict=False)
    model[0].bias.data += 3.0
    train(run, model, torch.optim.SGD(model.parameters(), lr=1e-3), entropy, run.batches(run.classes(), 1))


def fresh_steps(model, run, epochs):
    """Yield the steps of a training that nobody watches."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.batches(run.classes(), epochs):

        def step(batch=batch):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()

        yield step


@pytest.mark.parametrize(("number", "program"), form)
@pytest.mark.filterwarnings("ignore")
def test_a_form_of_a_fault_is_named_first(number, program):
    found, errors = demonstrate(program)
    assert not errors
    assert [each.cause for each in found[:1]] == [number]
