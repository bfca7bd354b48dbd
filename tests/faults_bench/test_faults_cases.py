"""The cases cover what they should, and the plants that are run here hurt their twins."""

import math
from collections import Counter

import pytest
import torch
from faults import harness
from faults.case import OPTIMIZERS, Run, cases, chosen, every
from faults.causes import CAUSES
from faults.doctors import Unwatched
from faults.families import NAMES, task
from faults.listing import tables


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_taxonomy():
    assert Counter(each[0] for each in CAUSES) == {"A": 24, "B": 13, "C": 13, "D": 21, "E": 8}


def test_the_development_part():
    """All causes of class A, most of the others, in several forms, by family, optimizer, severity and onset."""
    plants = cases("dev")
    assert all(case.causes for case in plants)
    single = [case for case in plants if len(case.causes) == 1]
    forms = {(case.planted, case.program) for case in single}
    by_cause = Counter(cause for cause, _ in forms)
    assert {each for each in CAUSES if each[0] == "A"} <= set(by_cause)
    assert len(by_cause) >= 60
    assert all(by_cause[each] >= 2 for each in CAUSES if each[0] == "A")
    assert len({case.family for case in plants}) >= 8
    assert {"SGD", "Adam", "AdamW", "RMSprop"} <= {case.optimizer for case in plants}
    assert {case.severity for case in plants} == {1, 2, 3}
    assert sum(case.onset > 10 for case in plants) >= 20
    assert sum(len(case.causes) > 1 for case in plants) >= 10


def test_the_healthy_part():
    controls = cases("healthy")
    assert not any(case.causes for case in controls)
    assert len(controls) >= 150
    assert 0.4 < sum(case.scary for case in controls) / len(controls) < 0.7
    assert {case.family for case in controls} == set(NAMES)


def test_the_blind_part():
    """Enough plants, causes, pairs of faults, and controls, half of which look sick."""
    found = cases("blind")
    plants, controls = [case for case in found if case.causes], [case for case in found if not case.causes]
    assert len(plants) >= 130
    assert len({ids[0] for case in plants for ids in case.causes}) >= 55
    assert sum(len(case.causes) > 1 for case in plants) >= 8
    assert {case.severity for case in plants} == {1, 2, 3}
    assert len(controls) >= 70
    assert sum(case.scary for case in controls) >= len(controls) / 2


def test_every_case_is_well_formed():
    for case in every().values():
        assert case.program.__doc__, f"{case.name} does not say what it is"
        assert case.decidable >= case.onset >= 0, case.name
        assert case.optimizer in OPTIMIZERS, case.name
        assert case.severity in ((1, 2, 3) if case.causes else (0,)), case.name
        assert case.name.startswith(case.planted or "ok"), case.name


def test_one_case_of_each_program():
    some = chosen("dev", forms=True)
    assert len({case.program for case in cases("dev")}) == len(some) == len({case.program for case in some})


def test_the_listing():
    text = "\n".join(table.text() for table in tables(chosen("dev", "A0")))
    assert "two at once" in text
    assert "recurrent" in text


@pytest.mark.parametrize("family", NAMES)
def test_families(family):
    """A model of each takes a step, its loss is a number, and a seed says all."""
    offered = task(family)
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        model = offered.model()
        losses.append(offered.loss(model, next(iter(offered.train()))))
        losses[-1].backward()
    assert losses[0].shape == ()
    assert torch.equal(*losses)
    assert math.isfinite(offered.measure(model))


@pytest.mark.parametrize(
    "name",
    [
        "A02.by_hand.graph.AdamW.3", "A04.new_head.digits.Adam.3", "A14.minus.digits.SGD.3",
        "B01.one_row.tabular.SGD.3", "C05.biases_below.digits.Adam.3", "D03.far_too_low.digits.SGD.3",
        "D06.whole_numbers.digits.SGD.3", "E06.distances_of_a_row_to_itself.digits.SGD.3",
        "B02+A04.raw_and_headless.digits.SGD.3",
    ],
)  # fmt: skip
def test_a_plant_hurts(name):
    faulty, twin = (harness.run(every()[name], variant, "none", 1) for variant in ("faulty", "twin"))
    assert not faulty["error"]
    assert not twin["error"]
    assert math.isfinite(float(twin["final"]))
    assert not float(faulty["final"]) < 1.2 * float(twin["final"])


def test_what_a_program_is_given():
    case = every()["D03.far_too_low.digits.Adam.2"]
    given = Run(case, True, 0, lambda *_, **more: Unwatched())
    assert given.pick("a", "b", "c") == "b"
    assert given.either("faulty", "sound") == "faulty"
    optimizer = given.optimizer(torch.nn.Linear(2, 2).parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == given.rate == task("digits").rates["Adam"]
    assert given.watch(None, optimizer) is given.doctors[0]
