"""Programs that a test goes through: forms of faults, each with the id of the cause that it is to be found to have."""

from typing import Any

import pytest


class Forms(list[Any]):
    """Parameters of a test: (id, program) each; `@forms(id)` adds a program."""

    def __call__(self, number: str) -> Any:
        """Return what collects a program, and the cause it is to be found to have."""

        def collect(program: Any) -> Any:
            self.append(pytest.param(number, program, id=f"{number}-{program.__name__}"))
            return program

        return collect
