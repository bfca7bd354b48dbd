"""Plain data about a run: prints to be read, and goes into JSON."""

import json
from pathlib import Path

import pytest

from steepest.record import Decision, Plan

PLAN = Plan((Decision("rule", "muon for 3 tensors", "matrices"), Decision("rate", "0.01", "fixed")))


def test_a_plan_reads_like_a_note():
    assert str(PLAN) == "rule  muon for 3 tensors\n      matrices\nrate  0.01\n      fixed"
    assert str(Plan(())) == ""


def test_a_plan_goes_into_json():
    assert json.loads(json.dumps(PLAN.to_dict()))["decisions"][1] == {
        "what": "rate", "value": "0.01", "why": "fixed", "evidence": {}, "alternative": "", "regret": {},
    }  # fmt: skip


def test_evidence_alternative_and_regret_are_read_and_kept():
    decision = Decision("rate", "0.01", "fixed", {"noise": 0.1234}, "0.1", {"half the rate": 0.05})
    plan = Plan((decision,))
    assert str(plan).splitlines() == [
        "rate  0.01", "      fixed", "      measured: noise 0.123",
        "      expected of the loss: half the rate would end +5%", "      instead of: 0.1",
    ]  # fmt: skip
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_plan_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    PLAN.save(tmp_path / "plan.json")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        Plan(()).save(tmp_path / "plan.json")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.load(tmp_path / "plan.json") == PLAN
