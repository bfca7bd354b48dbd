"""Parameter groups that say what they are when printed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_TITLES = ("parameter", "shape", "numbers", "rule", "lr factor", "weight decay", "why")
_NUMBERS = (2, 4, 5)


@dataclass(frozen=True)
class Assignment:
    """One parameter's row of the table. rule: "frozen" for one that is not trained."""

    name: str
    shape: tuple[int, ...]
    rule: str
    lr_factor: float
    weight_decay: float
    why: str

    @property
    def size(self) -> int:
        """How many numbers the parameter has."""
        return math.prod(self.shape)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, under the titles of the table."""
        trained = self.rule != "frozen"
        factor, decay = (f"{self.lr_factor:.4g}", f"{self.weight_decay:g}") if trained else ("", "")
        shape = " x ".join(map(str, self.shape)) or "()"
        return self.name, shape, f"{self.size:,}", self.rule, factor, decay, self.why


class Groups(list[dict[str, Any]]):
    """The `param_groups` of an optimizer, as a list that prints as a table.

    assignments: one for each parameter of the model, frozen ones included, in the order of the model.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], assignments: Iterable[Assignment]) -> None:
        super().__init__(groups)
        self.assignments = tuple(assignments)

    def __str__(self) -> str:
        rows = [_TITLES, *(assignment.cells for assignment in self.assignments)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self._summary()])

    __repr__ = __str__

    def _summary(self) -> str:
        sizes: dict[str, list[int]] = {}
        for assignment in self.assignments:
            sizes.setdefault(assignment.rule, []).append(assignment.size)
        return "; ".join(f"{rule}: {len(each)} tensors, {sum(each):,} numbers" for rule, each in sizes.items())


def _padded(row: Iterable[str], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if i in _NUMBERS else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
