"""Programs that look like faults in a loop's code and are none: nothing of class A is said."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor.demo import demonstrate, entropy, squares, train

PROGRAMS = []


def healthy(program):
    """Collect a program."""
    PROGRAMS.append(pytest.param(program, id=program.__name__))
    return program


@healthy
def a_generator_and_its_critic(run):
    made, critic = nn.Linear(4, 8), run.network(outputs=1)
    one, other = torch.optim.Adam(made.parameters(), lr=1e-3), torch.optim.Adam(critic.parameters(), lr=1e-3)

    def loss(model, batch):
        told = critic(model(torch.randn(len(batch[0]), 4)))
        return F.binary_cross_entropy_with_logits(told, torch.ones_like(told))

    for batch in run.watch(made, one, loss)(run.batches(run.numbers(), 3)):
        told = critic(torch.cat([batch[0], made(torch.randn(len(batch[0]), 4))]))
        half = torch.cat([torch.ones(len(batch[0]), 1), torch.zeros(len(batch[0]), 1)])
        other.zero_grad()
        F.binary_cross_entropy_with_logits(told, half).backward()
        other.step()
        one.zero_grad()
        loss(made, batch).backward()
        one.step()


@healthy
def accumulation(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for index, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 8, 16))):
        (entropy(model, batch) / 8).backward()
        if index % 8 == 7:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)


@healthy
def two_losses_of_a_batch(run):
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def decay(model):
        return 1e-4 * sum(each.square().sum() for each in model.parameters())

    doctor = run.watch(model, optimizer, lambda model, batch: entropy(model, batch) + decay(model))
    for batch in doctor(run.batches(run.classes(), 4)):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        decay(model).backward()
        optimizer.step()


@healthy
def trained_base_and_new_head(run):
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.batches(run.classes(), 12):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
    model[4] = nn.Linear(32, 3)
    train(run, model, torch.optim.Adam(model[4].parameters(), lr=1e-2), entropy, run.batches(run.classes(), 4))


@healthy
def a_target_that_follows(run):
    model = nn.ModuleDict({"net": run.network(outputs=4), "head": nn.Linear(4, 4)})
    model["target"] = copy.deepcopy(model["net"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss(model, batch):
        with torch.no_grad():
            wanted = model["target"](batch[0] + 0.1)
        return F.mse_loss(model["head"](model["net"](batch[0])), wanted) + F.mse_loss(
            model["net"](batch[0])[:, :1], batch[1]
        )

    for step, batch in enumerate(run.watch(model, optimizer, loss)(run.batches(run.numbers(), 4))):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        if step % 20 == 19:
            model["target"].load_state_dict(model["net"].state_dict())


@healthy
def gradients_turned_for_an_adversary(run):
    class Turned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -0.1 * grad

    model = nn.ModuleDict({"net": nn.Linear(8, 16), "head": nn.Linear(16, 3), "other": nn.Linear(16, 2)})

    def loss(model, batch):
        hidden = model["net"](batch[0]).relu()
        domain = (batch[0][:, 0] > 0).long()
        known = F.cross_entropy(model["head"](hidden), batch[1])
        return known + 0.1 * F.cross_entropy(model["other"](Turned.apply(hidden)), domain)

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes(), 4))


@healthy
def straight_through(run):
    class Signs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sign()

        @staticmethod
        def backward(ctx, grad):
            return grad

    model = run.network(wide=64)

    def loss(model, batch):
        return F.cross_entropy(model[2:](Signs.apply(model[:1](batch[0]))), batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes(), 4))


@healthy
def adapters(run):
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x):
            return self.base(x) + self.up(self.down(x))

    model = run.network()
    model[0], model[2] = Adapted(model[0]), Adapted(model[2])
    trained = [each for each in model.parameters() if each.requires_grad]
    train(run, model, torch.optim.Adam(trained, lr=1e-2), entropy, run.batches(run.classes(), 4))


@healthy
def closures(run):
    model = run.network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=4)
    x, y = run.classes()
    for batch in run.watch(model, optimizer, entropy)([(x, y)] * 12):

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = entropy(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)


@healthy
def scaled_in_half_precision(run):
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def loss(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return entropy(model, batch)

    for batch in run.watch(model, optimizer, loss)(run.batches(run.classes(), 4)):
        optimizer.zero_grad()
        scaler.scale(loss(model, batch)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


@healthy
def adversarial_examples(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in run.watch(model, optimizer)(run.batches(run.classes(), 4)):
        near = x.clone().requires_grad_()
        entropy(model, (near, y)).backward()
        assert near.grad is not None
        optimizer.zero_grad()
        entropy(model, (x + 0.05 * near.grad.sign(), y)).backward()
        optimizer.step()


@healthy
def validated_in_the_loop(run):
    model = run.network(wide=64)
    model.insert(2, nn.Dropout(0.2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for index, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 4))):
        model.train()
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
        if index % 10 == 9:
            model.eval()
            with torch.no_grad():
                entropy(model, run.classes())


@healthy
def pairs_that_are_meant(run):
    model = run.network(outputs=1)

    def loss(model, batch):
        told, true = model(batch[0]).squeeze(1), batch[1].squeeze(1)
        order = (true[:, None] > true[None, :]).float()
        return (F.softplus(told[None, :] - told[:, None]) * order).sum() / order.sum()

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.numbers(), 4))


@healthy
def summed_at_a_rate_that_suits(run):
    model = run.network(outputs=1)

    def loss(model, batch):
        return 32 * squares(model, batch)

    train(
        run, model, torch.optim.SGD(model.parameters(), lr=0.1 / 32, momentum=0.9), loss, run.batches(run.numbers(), 8)
    )


@healthy
def rewards_that_are_never_positive(run):
    model = run.network()

    def loss(model, batch):
        told = torch.distributions.Categorical(logits=model(batch[0]))
        action = told.sample()
        reward = (action == batch[1]).float() - 1 - 0.1 * torch.rand(len(action))
        return -(told.log_prob(action) * (reward - reward.mean())).mean()

    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches(run.classes(), 6))


@healthy
def the_whole_of_the_data_each_time(run):
    model = run.network()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, [run.classes()] * 60)


@healthy
def one_side_is_stopped(run):
    model = nn.ModuleDict({"net": run.network(outputs=6), "head": nn.Linear(6, 6)})

    def loss(model, batch):
        one, other = (model["net"](batch[0] + 0.1 * torch.randn_like(batch[0])) for _ in range(2))
        return -F.cosine_similarity(model["head"](one), other.detach()).mean() + F.mse_loss(one[:, :1], batch[1])

    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), loss, run.batches(run.numbers(), 4))


@healthy
def a_decay_to_nothing_in_one_epoch(run):
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=128)
    for batch in run.watch(model, optimizer, entropy, scheduler)(run.batches(run.classes(), 8)):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_nothing_of_class_a_is_said(program):
    found, errors = demonstrate(program, faulty=False)
    assert ([each for each in found if each.cause[0] == "A"], errors) == ([], [])
