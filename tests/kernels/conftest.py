"""What tests of kernels share."""

import os

import pytest


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of machine code that is thrown away: nobody asks for a random or a broken kernel again."""
    before = os.environ.get("STEEPEST_CACHE")
    os.environ["STEEPEST_CACHE"] = str(tmp_path_factory.mktemp("code"))
    yield
    del os.environ["STEEPEST_CACHE"]
    if before is not None:
        os.environ["STEEPEST_CACHE"] = before
