"""Plain data about a run: prints to be read, and goes into JSON."""

import json

from steepest.record import Decision, Plan

PLAN = Plan((Decision("rule", "muon for 3 tensors", "matrices"), Decision("rate", "0.01", "fixed")))


def test_a_plan_reads_like_a_note():
    assert str(PLAN) == "rule  muon for 3 tensors\n      matrices\nrate  0.01\n      fixed"
    assert str(Plan(())) == ""


def test_a_plan_goes_into_json():
    assert json.loads(json.dumps(PLAN.to_dict()))["decisions"][1] == {"what": "rate", "value": "0.01", "why": "fixed"}
