"""Whether samples come again is noticed, and weights decay accordingly."""

import pytest
import torch
from hypothesis import given, strategies as some
from torch import nn

from steepest.fit import fit
from steepest.pilot import build, measure
from steepest.pilot.repeats import Repeats, Watched, keys

STEPS = 400


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def shuffled(rows, size, seed=0):
    draw = torch.Generator().manual_seed(seed)
    data = torch.randn(rows, 5, generator=draw), torch.randn(rows, 1, generator=draw)
    while True:
        for part in torch.randperm(rows, generator=draw).split(size):
            yield data[0][part], data[1][part]


def looked(batches, bound=1000):
    repeats = Repeats()
    for number, batch in zip(range(1, bound + 1), batches, strict=False):
        if repeats.look(batch):
            return number, repeats
    return None, repeats


@given(epoch=some.integers(2, 40), size=some.integers(1, 50), seed=some.integers(0, 9))
def test_it_is_known_in_the_second_epoch(epoch, size, seed):
    number, repeats = looked(shuffled(epoch * size, size, seed))
    assert epoch < number <= 2 * epoch
    assert repeats.samples == number * size


def test_a_batch_that_holds_everything_is_known_at_the_second():
    assert looked(shuffled(50, 50))[0] == 2


def test_what_is_drawn_anew_or_changed_each_time_does_not_come_again():
    assert looked((torch.randn(8, 3),) for _ in range(300))[0] is None
    fixed = torch.randn(64, 3)
    assert looked((part + 0.01 * torch.randn(8, 3),) for _ in range(30) for part in fixed.split(8))[0] is None


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_samples_are_known_by_all_their_values(dtype):
    """Planted: one value differs, in any of the tensors."""
    x, y = torch.randn(6, 2, 3).mul(9).to(dtype), torch.arange(6)
    assert keys({"x": x, "more": [y]}) == keys({"x": x.clone(), "more": [y.clone()]})
    assert keys((x[[3]], y[[3]])) <= keys((x, y))
    assert not keys((x, y + 10)) & keys((x, y))
    changed = x.clone()
    changed[:, 1, 2] = ~changed[:, 1, 2] if dtype == torch.bool else changed[:, 1, 2] + 1
    assert not keys((changed, y)) & keys((x, y))


def test_batches_without_samples_are_never_known():
    assert looked(["words"] * 50)[0] is None
    assert looked([torch.tensor(1.0)] * 50)[0] is None


def network(inputs=5, wide=64):
    return nn.Sequential(nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 1))


def built(model, data, loss=mse):
    return build(model, measure(model, loss, data, STEPS))


def decays(choice):
    return [group["weight_decay"] * group["lr"] for group in choice.optimizer.param_groups if group["weight_decay"]]


def seen(samples, *losses):
    repeats = Repeats()
    repeats.samples = samples
    for loss in losses:
        repeats.hear(loss)
    return repeats


def test_what_was_learned_while_it_was_new_is_not_forgotten():
    for losses, kept in (([2.0] + [0.01] * 30, True), ([2.0] + [0.5] * 30, False), ([-1.0] + [-9.0] * 30, False)):
        choice = built(network(), shuffled(64, 16))
        before = decays(choice)
        choice.come_again(seen(80, *losses), done=0.1, step=40)
        assert (decays(choice) == before) == kept


def test_memory_is_some_epochs_of_many_and_the_run_of_few():
    """By hand: 30 epochs of 400 steps are remembered 4 times, so 100 steps each; at a mean rate of lr / 2."""
    for epochs, remembered in ((30, 100), (1.25, 400 / 1.125), (3000, 100)):
        choice = built(network(), shuffled(64, 16))
        choice.come_again(seen(80), done=1.25 / epochs, step=STEPS * 1.25 / epochs)
        assert decays(choice) == pytest.approx([2 / remembered] * 3)


def test_no_more_than_five_hundred_steps_are_remembered():
    choice = built(network(), shuffled(64, 16))
    choice.come_again(seen(80), done=1.25 / 20, step=8000 * 1.25 / 20)
    assert decays(choice) == pytest.approx([2 / 500] * 3)


def test_few_parameters_learn_little_by_heart_and_nothing_where_the_loss_is_quadratic():
    def sure(model, batch):
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), (batch[1] > 0).float())

    for loss, decay in ((mse, 0.01 * 0.025), (sure, 2 / max(100, 400 / (1 + 300 * 6 * 1.25 / 60 / 10)))):
        choice = built(nn.Linear(5, 1), shuffled(64, 16), loss)
        choice.come_again(seen(60), done=1.25 / 300, step=STEPS * 1.25 / 300)
        assert decays(choice) == pytest.approx([decay])


def test_weights_stay_smaller_where_samples_come_again():
    def fresh():
        for seed in range(10_000):
            yield next(shuffled(64, 16, seed))

    def length(data):
        torch.manual_seed(0)
        return fit(network(), mse, data, steps=STEPS, log=False).model[2].weight.detach().norm()

    assert length(shuffled(64, 16)) < 0.9 * length(fresh())


def test_embeddings_learn_faster_and_forget_less():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 10))
    data = [torch.randint(10, (16,)) for _ in range(4)]
    choice = built(model, data, lambda model, batch: nn.functional.cross_entropy(model(batch), batch))
    group = next(group for group in choice.optimizer.param_groups if group["params"][0] is model[0].weight)
    assert (group["lr"], group["weight_decay"]) == pytest.approx((0.02, 0.003))


def test_what_is_known_of_samples_is_kept_with_the_place_in_the_data():
    class Source:
        batches = samples = None
        say = print
        state = 0

        def epoch(self, number, start=0):
            yield from ((torch.arange(8) + 8 * number,) for _ in range(1))

        def state_dict(self):
            return {"at": self.state}

        def load_state_dict(self, state):
            self.state = state["at"]

    said = []
    first = Watched(Source(), str)
    first.say = said.append
    list(first.epoch(0))
    first.repeats.hear(3.0)
    second = Watched(Source(), lambda seen: f"known after {seen.samples}, {seen.first}")
    second.say = said.append
    second.load_state_dict(first.state_dict())
    list(second.epoch(0))
    list(second.epoch(0))
    assert said == ["known after 16, 3.0"]
