"""What is a hit, a miss, a false alarm; and which plants hurt."""

import math

import pytest
from faults.case import Case
from faults.runs import Order, make, read
from faults.score import judge, share, wilson
from faults.tables import goals, tables
from faults.verify import harm


def row(case, variant, said=(), doctor="steepest", final="1.0", seed=0, seconds=1.0):
    """One line of results; said: cause, cause with ! where it is proven, cause@step."""
    findings = [
        {
            "cause": each[:3],
            "status": "proven" if "!" in each else "suspected",
            "step": int(each.partition("@")[2] or 5),
            "onset": 0,
        }
        for each in said
    ]
    return {
        "case": case, "variant": variant, "doctor": doctor, "seed": seed, "findings": findings, "final": final,
        "steps": 9, "seconds": seconds, "reading": 0.5, "error": "", "own_errors": 0,
    }  # fmt: skip


def rows(*lines):
    return {Order(*(line[key] for key in Order._fields)): line for line in lines}


def planted(name, *causes, **more):
    return Case("dev", name, lambda run: None, "digits", "SGD", tuple((each,) for each in causes), 2, **more)


def verified(name, start, twin, faulty, seconds=(1.0, 1.0)):
    """The runs of a plant over as many seeds as there are numbers."""
    found = []
    for seed, (a, b, c) in enumerate(zip(start, twin, faulty, strict=True)):
        found.append(row(name, "twin", doctor="start", final=str(a), seed=seed))
        found.append(row(name, "twin", doctor="none", final=str(b), seed=seed, seconds=seconds[0]))
        found.append(row(name, "faulty", doctor="none", final=str(c), seed=seed, seconds=seconds[1]))
    return rows(*found)


@pytest.mark.parametrize(
    ("twin", "faulty", "hurts"),
    [
        ([0.1, 0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9, 0.9], True),
        ([0.1, 0.1, 0.1, 0.1, 0.1], ["nan", "nan", "inf", "nan", "nan"], True),
        ([0.1, 0.1, 0.1, 0.1, 0.1], [0.12, 0.12, 0.12, 0.12, 0.12], False),  # too little
        ([0.1, 0.2, 0.1, 0.2, 0.1], [0.2, 0.1, 0.2, 0.1, 0.2], False),  # seeds do not agree
        ([0.1, 0.1, 0.1, 0.1, 0.1], [0.05, 0.05, 0.05, 0.05, 0.05], False),  # better
        ([-3.0, -3.0, -3.0, -3.0, -3.0], [-2.0, -2.0, -2.0, -2.0, -2.0], True),  # a likelihood
    ],
)
def test_which_plants_hurt(twin, faulty, hurts):
    assert harm("x", verified("x", [1.0] * 5, twin, faulty)).hurts == hurts


def test_a_plant_that_slows_hurts():
    found = harm("x", verified("x", [1.0] * 5, [0.1] * 5, [0.1] * 5, seconds=(1.0, 4.0)))
    assert found.hurts
    assert found.slower == 4
    assert found.learns


def test_first_names_count():
    cases = [planted("one", "A01"), planted("two", "A12", "D07"), planted("late", "B01", onset=30, decidable=30)]
    found = judge(
        rows(
            row("one", "faulty", ["D01!", "A01"]),
            row("two", "faulty", ["D07!", "A12", "D01"]),
            row("late", "faulty", ["B01!@37"]),
            row("unknown", "faulty", ["B01"]),
        ),
        cases,
        {},
    )
    late, one, two = found
    assert [each.kind for each in found] == ["fault"] * 3
    assert (one.first, one.third, one.wrong_proven, one.first_proven) == (False, True, True, True)
    assert (two.first, two.all_named, two.wrong_proven) == (True, True, False)
    assert (late.first, late.delay, late.alarm) == (True, 7, True)
    assert share(found, lambda each: each.first) == pytest.approx(2 / 3)


def test_what_does_not_hurt_is_a_control():
    known = verified("one", [1.0] * 3, [0.1] * 3, [0.1] * 3)
    own, other = (
        judge(rows(row("one", "faulty", [said])), [planted("one", "A01")], known)[0] for said in ("A01", "D01")
    )
    assert own.kind == other.kind == "benign"
    assert not own.alarm
    assert other.alarm


def test_watching_must_not_change_the_run():
    known = verified("one", [1.0], [0.1], [0.9])
    (same,) = judge(rows(row("one", "twin", final="0.1")), [planted("one", "A01")], known)
    (changed,) = judge(rows(row("one", "twin", final="0.11")), [planted("one", "A01")], known)
    assert not same.changed
    assert changed.changed
    assert same.cost == 0.5


def test_the_tables():
    control = Case("healthy", "fine", lambda run: None, "gpt", "Adam", scary=True)
    cases = [planted("one", "A01"), planted("two", "A12", "D07"), control]
    found = judge(
        rows(
            row("one", "faulty", ["A01!"]), row("one", "twin"), row("two", "faulty", ["A12"]), row("two", "twin"),
            row("fine", "control", ["D01!"]),
        ),
        cases,
        {},
    )  # fmt: skip
    assert [line[1] for line in goals(found).rows] == [
        "1.00", "1.00", "0.00", "0.33", "0.20", "5", "-", "0.50", "1.00",
    ]  # fmt: skip
    text = "\n".join(table.text() for table in tables(found, misses=True))
    assert "Not right" in text
    assert "scary controls" in text


def test_wilson():
    low, high = wilson(0.5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)
    assert math.isnan(wilson(math.nan, 0)[0])


def test_results_are_kept_and_not_made_again(tmp_path, monkeypatch):
    """A line that was broken off is not there, and what is there is not made again."""
    from faults import runs

    path = tmp_path / "results.jsonl"
    path.write_text('{"case": "one", "variant": "twin", "doctor": "none", "seed": 0, "final": "1"}\n{"case": "tw')
    order = Order("one", "twin", "none", 0)
    monkeypatch.setattr(runs, "ProcessPoolExecutor", None)
    assert list(make([order, order], path)) == [order]
    assert list(read(path)) == [order]
    assert read(tmp_path / "nothing") == {}
