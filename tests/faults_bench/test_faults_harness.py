"""A run of a case says what the doctor found, what it cost and how the model ended."""

import sys
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch
from faults import case, harness
from faults.case import Case, chosen, every, plant
from faults.doctors import NAMES, doctor

import steepest
from steepest.record import Finding


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASE = "A01.removed.tabular.SGD.3"


@dataclass
class Stub:
    """A doctor that always finds A01, is to be closed, and has failed once."""

    model: object
    optimizer: object
    loss: object = None
    scheduler: object = None
    errors: list = field(default_factory=lambda: ["one"])
    closed: int = 0

    def __call__(self, batches):
        return iter(batches)

    @property
    def findings(self):
        return [Finding("A01", "missing-zero-grad", "proven", 4, 1, "gradients are carried over")]

    def close(self):
        self.closed += 1


def test_a_run_without_a_doctor():
    faulty, twin = (harness.run(every()[CASE], variant, "none", 0) for variant in ("faulty", "twin"))
    assert faulty["findings"] == twin["findings"] == []
    assert faulty["steps"] == twin["steps"] == 180
    assert float(twin["final"]) < 0.4
    assert not float(faulty["final"]) < 0.4
    assert not faulty["error"]


def test_a_seed_says_all():
    first, again, other = (harness.run(every()[CASE], "twin", "none", seed)["final"] for seed in (1, 1, 2))
    assert first == again != other


def test_the_start_is_one_batch():
    row = harness.run(every()[CASE], "twin", "start", 0)
    assert row["steps"] == 1
    assert float(row["final"]) > 0.6


def test_steepest_is_watched_through_its_contract(monkeypatch):
    made = []
    monkeypatch.setitem(vars(steepest), "watch", lambda *given, **more: made.append(Stub(*given, **more)) or made[-1])
    row = harness.run(every()[CASE], "faulty", "steepest", 0)
    assert row["findings"] == [{"cause": "A01", "status": "proven", "step": 4, "onset": 1}]
    assert row["own_errors"] == 1
    assert made[0].closed == 1
    assert isinstance(made[0].model, torch.nn.Module)
    assert made[0].loss(made[0].model, (torch.zeros(3, 10), torch.zeros(3, 1))).shape == ()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("steepest", "start")])
def test_opponents_do_not_change_the_run(name):
    backward = torch.Tensor.backward
    late = every()["A02.too_late.digits.SGD.3"]
    alone, watched = harness.run(late, "twin", "none", 3), harness.run(late, "twin", name, 3)
    assert watched["final"] == alone["final"]
    assert not watched["error"]
    assert torch.Tensor.backward is backward


def test_an_error_is_a_result(monkeypatch):
    def broken(run):
        run.watch(None, None)
        raise KeyError("nothing there")

    row = harness.run(Case("dev", "x", broken, "digits", "SGD"), "control", "none", 0)
    assert row["error"] == "program: KeyError: 'nothing there'"
    assert row["final"] == "nan"
    monkeypatch.setattr(harness, "LIMIT", 0.05)
    row = harness.run(Case("dev", "x", lambda run: [None for _ in iter(int, 1)], "digits", "SGD"), "control", "none", 0)
    assert "TimeoutError" in row["error"]


def test_a_doctor_that_fails_is_an_error_of_the_run(monkeypatch):
    failing = type("Failing", (Stub,), {"findings": property(lambda self: 1 / 0)})
    monkeypatch.setattr(harness, "doctor", lambda name, seed: failing)
    row = harness.run(every()[CASE], "faulty", "steepest", 0)
    assert row["error"].startswith("doctor: ZeroDivisionError")
    assert float(row["final"]) is not None


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match="no cause Z99"):
        plant("Z99", "digits SGD 1")
    with pytest.raises(ValueError, match="No doctor is called 'nobody'"):
        doctor("nobody", 0)
    with pytest.raises(ValueError, match="No case is called 'Z'"):
        case.named("Z")
    with pytest.raises(ValueError, match="No case of dev begins with 'Z'"):
        chosen("dev", "Z")


def test_a_folder_is_collected(monkeypatch, tmp_path):
    """What lies in a folder of cases is found there, and a name can be given once."""
    (tmp_path / "written_later.py").write_text(
        "from faults.case import healthy, plant\n"
        "@plant('D01+B02', 'digits SGD 2', also='D04', onset=7, decidable=9)\n"
        "def two(run):\n    'Two at once.'\n"
        "@healthy('gpt Adam', scary=True)\n"
        "def calm(run):\n    'Nothing is wrong.'\n"
    )
    folder = ModuleType("faults.trial")
    folder.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "faults.trial", folder)
    monkeypatch.setattr(case, "PARTS", ("trial",))
    try:
        two, calm = chosen("trial")
        assert (two.name, two.planted, two.onset, two.decidable) == ("D01+B02.two.digits.SGD.2", "D01+B02", 7, 9)
        assert two.causes == (("D01", "D04"), ("B02", "D04"))
        assert calm.name == "ok.calm.gpt.Adam"
        assert calm.scary
        assert not calm.causes
        with pytest.raises(ValueError, match="Two cases are called"):
            plant("D01+B02", "digits SGD 2")(two.program)
        assert case.named(calm.name) is calm
    finally:
        case.cases.cache_clear()
        sys.modules.pop("faults.trial.written_later", None)
        for name in ("D01+B02.two.digits.SGD.2", "ok.calm.gpt.Adam"):
            case._FOUND.pop(name, None)
