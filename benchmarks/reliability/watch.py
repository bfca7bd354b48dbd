"""What one process sees of another without asking it: numbers in a file that both have mapped."""

import mmap
from pathlib import Path

PHASES = ("import", "begin", "train", "evaluate", "end")
FIELDS = ("phase", "steps", "evaluated", "saves", "longest_save")
"""Phase; batches that the model was trained on and evaluated on, and saves, begun in this life; microseconds."""


class Watch:
    """The numbers in a file, each of which one process writes and another reads; both survive its death."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 8 * len(FIELDS))).cast("q")

    def clear(self) -> None:
        """Begin a life."""
        for place in range(len(FIELDS)):
            self._numbers[place] = 0

    def enter(self, phase: str) -> None:
        """Note what is being done now."""
        self._numbers[0] = PHASES.index(phase)

    def add(self, field: str) -> None:
        """Count one more."""
        self._numbers[FIELDS.index(field)] += 1

    def raise_to(self, field: str, value: int) -> None:
        """Note a number if it is the largest so far."""
        self._numbers[FIELDS.index(field)] = max(self._numbers[FIELDS.index(field)], value)

    def read(self) -> dict[str, int]:
        """Return all numbers."""
        return dict(zip(FIELDS, self._numbers, strict=True))

    @property
    def phase(self) -> str:
        """What is being done now."""
        return PHASES[self._numbers[0]]


own: list[Watch] = []
"""The watch of this process, if somebody watches it."""
