"""Experiments count what they say, and their tables say what was counted."""

import time

import pytest
from pilot import harness, horizon, regret, report, stress, table, wall
from pilot.experiments import EXPERIMENTS, experiment
from pilot.workloads import every


def row(order, final, **more):
    return {
        "workload": order[0], "contender": order[1], "seed": order[2], "final": final, "initial": 4.0, "error": "",
        "diverged": final is None or final > 4.0, **more,
    }  # fmt: skip


def cell(tables, line, column):
    (made,) = tables
    return next(cells for cells in made.rows if cells[0] == line)[list(made.head).index(column)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_run_is_asked_for_twice_and_each_can_be_made(name):
    orders = experiment(name).orders()
    assert len(set(orders)) == len(orders)
    for order in orders:
        base, _, changes = order.workload.partition("@")
        assert harness.varied(every()[base], changes).steps > 0
    assert experiment(name).tables([]) == []


def test_there_are_300_runs_under_stress():
    assert len(stress.orders()) >= 300
    assert len({order.workload.partition("@")[0] for order in stress.orders()}) >= 10


def test_what_diverges_is_counted():
    rows = [row(order, 1.0) for order in stress.orders()]
    assert cell(stress.tables(rows), "all", "diverged") == "0"
    assert "95 %" in stress.tables(rows)[0].note
    lost = next(at for at, each in enumerate(rows) if "loss=1e4" in each["workload"])
    rows[lost] = row(stress.orders()[lost], None, error="RuntimeError: lost")
    tables = stress.tables(rows)
    assert cell(tables, "all", "diverged") == cell(tables, "loss x 1e4", "diverged") == "1"
    assert cell(tables, "bf16", "diverged") == "0"
    assert tables[0].note == ""


def test_a_run_that_breaks_or_ends_higher_has_diverged(short, monkeypatch):
    assert harness.run("short@steps=6", "sgd_100", 0)["diverged"]
    monkeypatch.setattr(harness, "train", lambda name, job: {}["no such key"])
    broken = harness.run("short", "steepest", 0)
    assert broken["diverged"]
    assert broken["error"].startswith("KeyError")


def test_arguments_of_fit_are_passed_on(short):
    plain, half = (harness.run("short@steps=60", name, 0) for name in ("steepest", "steepest[precision=bf16]"))
    assert plain["error"] == half["error"] == ""
    assert plain["final"] != half["final"]
    assert plain["spent"] > 0
    assert "precision" in harness.run("short", "steepest[precision=fp17]", 0)["error"]


def test_lengths_of_run():
    rate = horizon.found_rates()["tanh12"]
    assert horizon.contenders(0.0056) == ["steepest", "adamw_0.0028", "adamw_0.0056", "adamw_0.011"]
    orders = [(name, each, 0) for name in [horizon.lengthened("tanh12", 4)] for each in horizon.contenders(rate)]
    tables = horizon.tables([row(order, final) for order, final in zip(orders, (1.0, 2.0, 4.0, 8.0), strict=True)])
    assert cell(tables, "tanh12 x 4", "ratio") == "0.250"
    assert cell(tables, "tanh12 x 4", "to the best of three") == "0.500"


def test_seconds_of_validation_are_not_counted(short, monkeypatch):
    plain = harness.validate
    before = harness.run("short", "adamw_0.01", 0)
    monkeypatch.setattr(harness, "validate", lambda *given: time.sleep(0.1) or plain(*given))
    slow = harness.run("short", "adamw_0.01", 0)
    assert slow["final"] == before["final"]
    assert slow["seconds"][-1] < 0.6  # 12 validations take 1.2
    assert slow["seconds"] == sorted(slow["seconds"])


def test_the_ratio_of_seconds():
    """The target is where the loop of the same seed ends; who never is there is infinitely slow."""
    rows = []
    for order in (order for order in wall.orders() if order.workload == "student_raw"):
        target = 2.0 + order.seed
        curve, mine = [(1.0, 9.0), (2.0, target)], order.contender == "steepest"
        rows.append(row(order, target, curve=curve, seconds=[1.0, 3.0] if mine else [2.0, 6.0]))
    assert [order.contender for order in wall.orders()][::2] == ["steepest"] * (len(wall.orders()) // 2)
    assert cell(wall.tables(rows), "student_raw", "ratio") == "0.50"
    assert cell(wall.tables(rows), "student_raw", "reached") == "3/3"
    rows[0]["curve"] = rows[2]["curve"] = [(1.0, 9.0), (2.0, 9.0)]
    assert cell(wall.tables(rows), "student_raw", "reached") == "1/3"
    assert cell(wall.tables(rows), "student_raw", "ratio") == "inf"


def test_another_rate():
    half, double = regret.at_times(0.5), regret.at_times(2.0)
    told = {"half the rate": 0.05, "twice the rate": 0.1}
    rows = []
    for seed in regret.SEEDS:
        rows += [
            row(("wine_raw", "steepest", seed), 1.0, rate=0.01, regret=told),
            row(("wine_raw", half, seed), 1.5, rate=0.005),
            row(("wine_raw", double, seed), 3.0, rate=0.02),
        ]
    tables = regret.tables(rows)
    assert [cell(tables, "wine_raw", column) for column in ("half", "twice")] == ["+50.0%", "+200.0%"]
    assert [cell(tables, "wine_raw", f"{word}, predicted") for word in ("half", "twice")] == ["+5.0%", "+10.0%"]
    rows[1]["rate"] = 0.01  # a constant was replaced, and the rate was the same
    assert cell(regret.tables(rows), "wine_raw", "half") == "-"


def test_the_rate_is_replaced(short):
    own, half = (harness.run("short@steps=60", name, 0) for name in ("steepest", regret.at_times(0.5)))
    assert half["rate"] == pytest.approx(own["rate"] / 2)


def test_a_table_is_printed_and_written():
    made = table.Table("title", ["", "a"], [["one", "1.5"], ["two", "inf"]], "note")
    assert made.text() == "\ntitle\nnote\n         a\n  one  1.5\n  two  inf"
    assert made.markdown() == "**title**\n\nnote\n\n|  | a |\n| --- | --: |\n| one | 1.5 |\n| two | inf |"


def test_the_page_holds_every_table_and_no_place(tmp_path):
    page = report.write(tmp_path / "page.md").read_text()
    assert "Against the AdamW sweep's best" in page
    for name in EXPERIMENTS:
        assert f"`python benchmarks/pilot {name}`" in page
    assert "/home" not in page
    assert str(report.PAGE.parents[1]) not in page
    assert max(page.count(f"\n## {question}") for question in ("Against", "In two halves")) == 1
