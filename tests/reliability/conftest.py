"""The proofs are programs of `benchmarks/`; here they run in a short form, with a fault that they must find beside."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def nursery():
    from reliability.lives import Nursery

    with Nursery() as made:
        yield made
