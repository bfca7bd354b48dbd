"""The gradient of a batch in parts is that of the batch, also with ragged masks, and when memory runs out."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from steepest.data import describe
from steepest.loop import Run
from steepest.loop.activations import recompute, repeated_blocks, saved_bytes
from steepest.loop.microbatch import Microbatch

FEATURES, LENGTH = 6, 7


class Tagger(nn.Module):
    """Scores each place of a sequence."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 12), nn.Tanh(), nn.Linear(12, 3))

    def forward(self, x):
        return self.body(x)


def ragged(samples=16):
    lengths = torch.randint(0, LENGTH + 1, (samples,))
    lengths[0] = LENGTH
    return {
        "x": torch.randn(samples, LENGTH, FEATURES),
        "y": torch.randint(0, 3, (samples, LENGTH)),
        "mask": torch.arange(LENGTH) < lengths[:, None],
    }


def masked(model, batch):
    """The mean over all places that are not masked."""
    each = nn.functional.cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten(), reduction="none")
    each, mask = each[batch["mask"].flatten()], batch["mask"]
    return {"loss": each.sum() / max(int(mask.sum()), 1), "weight": int(mask.sum()), "entropy": each.detach().mean()}


def mean_of_means(model, batch):
    """The breach: what the weight of a part is, is not said."""
    return masked(model, batch)["loss"]


def one_step(model, loss, batch, **more):
    run = Run(model, loss, [batch], optimizer=torch.optim.SGD(model.parameters(), lr=0.0), steps=1, **more)
    step = next(iter(run))
    return torch.cat([p.grad.flatten() for p in model.parameters()]), step


def far(one, other):
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("size", [1, 2, 4, 5, 8, 16, 100])
def test_parts_give_the_gradient_of_the_whole_with_ragged_masks(size):
    model, batch = Tagger(), ragged()
    whole, at_once = one_step(model, masked, batch)
    parts, in_parts = one_step(model, masked, batch, microbatch=size)
    assert far(parts, whole) < 1e-6
    assert in_parts.loss == pytest.approx(at_once.loss, rel=1e-6)


def test_a_mean_of_means_is_caught():
    model, batch = Tagger(), ragged()
    assert far(one_step(model, mean_of_means, batch, microbatch=4)[0], one_step(model, mean_of_means, batch)[0]) > 1e-3


def test_a_short_last_part_weighs_by_its_samples():
    model, batch = Tagger(), ragged(11)

    def plain(model, batch):
        return nn.functional.mse_loss(model(batch["x"]), torch.ones(len(batch["x"]), LENGTH, 3))

    assert far(one_step(model, plain, batch, microbatch=4)[0], one_step(model, plain, batch)[0]) < 1e-6


def test_all_that_has_a_row_for_each_sample_is_cut_and_nothing_else():
    batch = ({"x": torch.ones(5, 2), "n": np.ones(5), "scale": torch.ones(3)}, ["a", "b", "c", "d", "e"], 7)
    first, second, third = (part for part, _ in Microbatch(2).parts(batch))
    assert describe(first) == "({'x': float32[2, 2], 'n': float64[2], 'scale': float32[3]}, [str, str], int)"
    assert second[1] == ["c", "d"]
    assert describe(third[0]["x"]) == "float32[1, 2]"


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "many"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValueError, match='microbatch is a number of samples, 1 or more, "auto" or None'):
        Microbatch(size)


class Small:
    """A memory in which so many samples have room, and a loss that needs it."""

    def __init__(self, room):
        self.room, self.tried = room, []

    def __call__(self, model, batch):
        self.tried.append(len(batch))
        noise = torch.rand(())  # as dropout would draw
        loss = (model(batch) * (1 + noise)).pow(2).mean()
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")
        return loss


def test_when_memory_runs_out_the_same_update_is_made_in_halves():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    batches, said = [torch.randn(16, 2), torch.randn(16, 2)], []
    twin = copy.deepcopy(model)

    def run(model, loss, microbatch):
        torch.manual_seed(5)
        made = Run(
            model, loss, batches, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), steps=2, microbatch=microbatch
        )
        made.say_with(said.append)
        return made, [step.loss for step in made]

    loss = Small(5)
    made, losses = run(model, loss, "auto")
    assert loss.tried == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]
    assert said == [
        "memory ran out with 16 samples at a time: 8 from here on",
        "memory ran out with 8 samples at a time: 4 from here on",
    ]
    _, expected = run(twin, Small(5), 4)  # the same random numbers and batch norm statistics as without a failure
    assert losses == expected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    assert made.state_dict()["memory"] == {"microbatch": 4, "recompute": False}


def test_memory_that_runs_out_on_one_sample_is_an_error():
    model = nn.Linear(2, 1)
    with pytest.raises(MemoryError, match=r"Memory ran out with 1 sample at a time; the batch is float32\[4, 2\]"):
        one_step(model, Small(0), torch.randn(4, 2), microbatch="auto")


def test_without_auto_memory_that_runs_out_is_the_error_it_was():
    model = nn.Linear(2, 1)
    with pytest.raises(torch.OutOfMemoryError):
        one_step(model, Small(2), torch.randn(4, 2))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        return x + self.layers(x)


def deep(blocks=6, width=8):
    return nn.Sequential(nn.Linear(2, width), *(Block(width) for _ in range(blocks)), nn.Linear(width, 1))


def squared(model, batch):
    return model(batch).pow(2).mean()


def test_recomputed_activations_change_no_bit_and_save_memory():
    model, batch = deep(), torch.randn(64, 2)
    assert len(repeated_blocks(model)) == 6
    torch.manual_seed(1)
    with saved_bytes(model) as plain:
        before, _ = one_step(model, squared, batch)
    torch.manual_seed(1)
    with saved_bytes(model) as saved:
        after, _ = one_step(model, squared, batch, checkpoint_activations=True)
    assert torch.equal(before, after)
    assert saved() < 0.3 * plain()


def test_what_recomputing_saves_is_said():
    model, said = deep(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = Run(model, squared, [torch.randn(64, 2)], optimizer=optimizer, steps=2, checkpoint_activations=True)
    run.say_with(said.append)
    list(run)
    (sentence,) = said
    now, before = (float(number) for number in re.findall(r"([\d.e-]+)(?= MB|$)", sentence))
    assert 0 < now < 0.5 * before
    assert "forward" in vars(model[1])


def test_the_model_is_left_as_it_was():
    model = deep()
    names = list(model.state_dict())
    undo = recompute(model)
    assert list(model.state_dict()) == names
    undo()
    assert all("forward" not in vars(module) for module in model.modules())
    copy.deepcopy(model)


def test_a_model_without_repeated_blocks_says_so():
    with pytest.raises(ValueError, match="Sequential has no two equal blocks side by side"):
        recompute(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


def test_auto_recomputes_first_and_halves_then():
    model, said = deep(), []

    class Tight(Small):
        def __call__(self, model, batch):
            recomputed = "forward" in vars(model[1])
            self.room = 4 if recomputed else 1
            return super().__call__(model, batch)

    run = Run(
        model, Tight(0), [torch.randn(8, 2)], optimizer=torch.optim.SGD(model.parameters(), lr=0.1), steps=1,
        microbatch="auto", checkpoint_activations="auto",
    )  # fmt: skip
    run.say_with(said.append)
    list(run)
    assert [text.split(": ")[1] for text in said] == ["activations are recomputed from here on", "4 from here on"]
    run.close()
    assert "forward" not in vars(model[1])
