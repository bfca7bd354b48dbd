"""A doctor in a run of fit: it finds what is wrong, keeps it, and changes nothing."""

import copy
import json

import pytest
import torch
from torch import nn

from steepest import events, fit, optim


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))


def data():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(512, 8, generator=draw)
    return x, x[:, :3].argmax(1)


def entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squashed(model, batch):
    return nn.functional.cross_entropy(model(batch[0]).softmax(1), batch[1])


@pytest.mark.parametrize("own", [False, True], ids=["the pilot's", "a given one"])
@pytest.mark.parametrize("microbatch", [None, 8])
def test_a_run_that_is_watched_ends_with_the_same_bits(own, microbatch):
    models = []
    for repair in (None, "off"):
        model = network()
        optimizer = optim.AdamW(model.parameters(), lr=1e-2) if own else None
        result = fit(
            model, entropy, data(), steps=130, optimizer=optimizer, microbatch=microbatch, repair=repair, log=False
        )
        assert result.findings == []
        models.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_what_is_found_is_said_written_and_returned(tmp_path, capsys):
    result = fit(network(), squashed, data(), steps=130, out=tmp_path / "run", repair="off")
    assert [each.cause for each in result.findings] == ["A08"]
    assert "A08 squashed-twice, proven" in capsys.readouterr().out
    (kept,) = (tmp_path / "run" / "incidents").iterdir()
    assert json.loads(kept.read_text())["cause"] == "A08"
    found = [each for each in events.read(tmp_path / "run" / events.FILE) if each["event"] == "finding"]
    assert [each["cause"] for each in found] == ["A08"]


def test_what_cannot_be_asked_of_the_doctor_is_said():
    with pytest.raises(ValueError, match='repair is "off"'):
        fit(network(), entropy, data(), steps=10, repair="sometimes")
