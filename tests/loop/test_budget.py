"""How long a run is: a number of updates, or a time that it ends on."""

import pytest
from hypothesis import given, strategies as st

from steepest.loop.budget import FINE, Budget, budget_of, seconds_of


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2 h", 7200), ("1.5h", 5400), (7, 7), (0.5, 0.5)],
)
def test_a_time_is_read(time, seconds):
    assert seconds_of(time) == seconds


@pytest.mark.parametrize("time", ["", "30", "m", "30x", "-3m", "0s", 0, -1, True, None, float("inf"), float("nan")])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(ValueError, match="time is how long to train, as"):
        seconds_of(time)


def test_there_is_one_budget_or_none():
    assert budget_of(None, None, None, 10) == Budget()
    for given_budgets in ({"steps": 3, "time": "1m"}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="one budget, steps=, epochs= or time="):
            budget_of(given_budgets.get("steps"), given_budgets.get("epochs"), given_budgets.get("time"), 10)
    assert budget_of(None, 3, None, 10) == Budget(steps=30)
    with pytest.raises(ValueError, match="does not say how many batches"):
        budget_of(None, 3, None, None)


@given(steps=st.integers(1, 1000), done=st.integers(0, 1000))
def test_steps_are_counted(steps, done):
    budget = Budget(steps=steps)
    assert budget.spent(done, 1e9) == (done >= steps)
    assert budget.place(done, 1e9) == (done, steps)


@given(total=st.floats(1, 1e4), reserve=st.floats(0, 0.5), each=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=50))
def test_a_time_ends_within_a_step_and_keeps_its_reserve_free(total, reserve, each):
    budget = Budget(seconds=total, reserve=reserve)
    steps, now, places = 0, 0.0, []
    while not budget.spent(steps, now):
        place, of = budget.place(steps, now)
        assert of == FINE
        places.append(place)
        now += each[steps % len(each)]
        steps += 1
    assert abs(now - (total - reserve)) <= max(each)
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] < FINE
