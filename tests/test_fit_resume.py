"""A run that died at any step goes on from its last checkpoint to the same bits as if it had not."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from steepest import optim, schedules
from steepest.fit import fit
from steepest.groups import groups

STEPS, EVERY = 14, 3
DIES = (2, 7, 12)
"""The loss fails at these calls: before the first checkpoint, in the second pass over the data, near the end."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


class Noisy(Dataset):
    """Samples that are different each time they are read, by all three generators."""

    def __init__(self):
        self.x, self.y = torch.randn(40, 5), torch.randn(40, 2)

    def __len__(self):
        return 40

    def __getitem__(self, place):
        noise = torch.randn(5) + random.random() + np.random.rand()
        return self.x[place] + 0.1 * noise.float(), self.y[place]


def arrays():
    return torch.randn(40, 5), torch.randn(40, 2)


def endless():
    generator = np.random.default_rng(3)
    while True:
        yield tuple(torch.from_numpy(generator.normal(size=(8, width))).float() for width in (5, 2))


def network():
    return nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def normed():
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 2))


def of(kind, **options):
    return lambda model: kind(groups(model) if kind is optim.Muon else model.parameters(), lr=0.01, **options)


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def loader(**options):
    return lambda: DataLoader(Noisy(), batch_size=8, shuffle=True, **options)


CASES = {
    "arrays, dropout": {},
    "dataset that draws numbers": {"data": Noisy},
    "the same, read by two processes": {"data": Noisy, "workers": 2},
    "shuffling loader that draws numbers": {"data": loader()},
    "the same loader, with two processes": {"data": loader(num_workers=2)},
    "loader with a generator of its own": {"data": lambda: loader(generator=torch.Generator().manual_seed(5))()},
    "endless iterator": {"data": endless},
    "micro-batches": {"microbatch": 3},
    "running mean of weights, batch norm": {"model": normed, "optimizer": of(optim.AdamW, ema=0.9)},
    "fp16 with its scale": {"precision": "fp16", "clip": 1.0},
    "bfloat16 weights, Kahan": {"precision": "bf16-true", "optimizer": of(optim.AdamW, rounding="kahan")},
    "bfloat16 weights, stochastic": {"precision": "bf16-true", "optimizer": of(optim.AdamW, rounding="stochastic")},
    "pilot": {"optimizer": lambda model: None},
    "Muon, schedule as lr": {
        "optimizer": lambda model: optim.Muon(groups(model), lr=0.02 * schedules.warmup(0.2) * schedules.linear())
    },
    "SOAP": {"optimizer": of(optim.SOAP)},
    "Prodigy, states shared by all": {"optimizer": of(optim.Prodigy)},
    "schedule-free": {"optimizer": of(optim.ScheduleFreeAdamW)},
    "torch's optimizer, schedule, clip": {"optimizer": adam, "schedule": schedules.cosine(), "clip": 0.1},
    "recomputed activations": {
        "model": lambda: nn.Sequential(nn.Linear(5, 8), *(Block() for _ in range(3)), nn.Linear(8, 2)),
        "checkpoint_activations": True,
    },
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3))

    def forward(self, x):
        return torch.tanh(x + self.layers(x))


def trained(out, dies=None, **case):
    """Train from the beginning, or from what is in the folder; return losses by step, weights and the optimizer."""
    settings = {"model": network, "data": arrays, "optimizer": adam, "workers": 0, **case}
    torch.manual_seed(0)
    model, data = settings.pop("model")(), settings.pop("data")()
    val = torch.randn(9, 5), torch.randn(9, 2)
    optimizer = settings.pop("optimizer")(model)
    calls = iter(range(10**6))

    def loss(model, batch):
        if model.training and next(calls) == dies:
            raise Killed
        x, y = batch
        return nn.functional.mse_loss(model(x).float(), y)

    result = fit(
        model, loss, data, steps=STEPS, optimizer=optimizer, batch_size=8, val=val, out=out, checkpoint_every=EVERY,
        log=False, **settings,
    )  # fmt: skip
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result.history]
    state = {} if optimizer is None else optimizer.state_dict()
    return rows, model.state_dict(), state


def tree_equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(tree_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(tree_equal, one, other))
    return one == other or (one != one and other != other)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_that_died_goes_on_bit_for_bit(case, tmp_path):
    whole = trained(tmp_path / "whole", **case)
    per_step = (case.get("microbatch") and 3) or 1  # batches of eight in parts of three
    for dies in DIES:
        out = tmp_path / f"died {dies}"
        with pytest.raises(Killed):
            trained(out, dies=dies * per_step, **case)
        again = trained(out, **case)
        for mine, its in zip(again, whole, strict=True):
            assert tree_equal(mine, its)


@pytest.mark.parametrize("breach", ["random", "data", "optimizer", "average"])
def test_what_is_not_restored_gives_itself_away(breach, tmp_path, monkeypatch):
    import steepest.loop.run as module
    from steepest.loop.position import Position

    case = CASES["running mean of weights, batch norm"]
    whole = trained(tmp_path / "whole", **case)
    with pytest.raises(Killed):
        trained(tmp_path / "died", dies=7, **case)
    if breach == "random":
        monkeypatch.setattr(module, "restore_random_state", lambda state: None)
    elif breach == "data":
        monkeypatch.setattr(module, "Position", lambda **state: Position(**{**state, "batch": 0}))
    elif breach == "optimizer":
        monkeypatch.setattr(optim.AdamW, "load_state_dict", lambda self, state: None)
    else:
        monkeypatch.setattr(module.Average, "load_state_dict", lambda self, state: None)
    assert not tree_equal(trained(tmp_path / "died", **case), whole)


def test_a_run_that_has_ended_is_not_made_again(tmp_path, capsys):
    first = trained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = trained(tmp_path, dies=0)  # would fail at the first step
    assert tree_equal(again, first)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_changes_are_told_by_what_they_do(tmp_path, capsys):
    torch.manual_seed(0)
    model = network()

    def go_on(steps, model=model, **changes):
        optimizer = torch.optim.SGD(model.parameters(), **({"lr": 0.1} | changes.pop("options", {})))
        return fit(
            model, lambda model, batch: model(batch[0]).pow(2).mean(), arrays(), steps=steps, optimizer=optimizer,
            out=tmp_path, **({"batch_size": 8} | changes),
        )  # fmt: skip

    go_on(3)
    capsys.readouterr()
    go_on(5, workers=2, batch_size=4, options={"lr": 0.3, "weight_decay": 0.5})
    said = capsys.readouterr().out
    assert "going on from step 3" in said
    result = "(changes the result: what follows is not what the run would have been): lr of group 0 0.1 -> 0.3, "
    assert result + "weight_decay of group 0 0 -> 0.5, steps 3 -> 5, batch_size 8 -> 4" in said
    assert "(safe): workers 0 -> 2" in said
    assert "lr 0.3 " in said  # what the user asks for now holds, not what was saved
    other = nn.Sequential(nn.Linear(5, 17), nn.Linear(17, 2))
    with pytest.raises(
        ValueError, match=r"belongs to another model: 0.weight is float32\[16, 5\] there and float32\[17, 5\]"
    ):
        go_on(9, model=other)
    with pytest.raises(ValueError, match="holds a run already"):
        go_on(9, resume="never")
    with pytest.raises(ValueError, match='resume is "auto" or "never"; received True'):
        go_on(9, resume=True)


def test_a_run_killed_before_its_first_checkpoint_begins_anew_in_the_same_file(tmp_path):
    with pytest.raises(Killed):
        trained(tmp_path, dies=1)
    rows, *_ = trained(tmp_path)
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(STEPS))
    from steepest.events import rows

    assert [row["step"] for row in rows(tmp_path / "events.jsonl") if "train/loss" in row] == list(range(STEPS))


def test_a_run_that_fails_between_two_updates_is_saved_first(tmp_path):
    model = network()

    class Ends(Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, place):
            if place == 37:
                raise OSError("the file of sample 37 is gone")
            return torch.ones(5), torch.ones(2)

    with pytest.raises(OSError, match="sample 37 is gone") as caught:
        fit(
            model,
            lambda model, batch: model(batch[0]).pow(2).mean(),
            Ends(),
            epochs=1,
            batch_size=4,
            out=tmp_path,
            log=False,
        )
    assert any("sample 37" in note for note in caught.value.__notes__)
    (saved,) = (tmp_path / "checkpoints").glob("step-*")
    assert int(saved.name.split("-")[1]) > 0
