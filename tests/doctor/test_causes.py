"""Each cause is found in its demonstration, and not in the same program without the fault."""

import pytest

from steepest.doctor.cause import catalogue, demonstration
from steepest.doctor.demo import demonstrate

IDS = list(catalogue())


@pytest.mark.parametrize("number", IDS)
def test_the_planted_fault_is_named_first(number):
    found, errors = demonstrate(demonstration(number), faulty=True)
    assert not errors
    assert [each.cause for each in found[:1]] == [number]


@pytest.mark.parametrize("number", IDS)
def test_nothing_is_said_of_the_same_program_without_the_fault(number):
    found, errors = demonstrate(demonstration(number), faulty=False)
    assert (found, errors) == ([], [])
