"""Progress of a run: a live bar on a terminal, plain lines anywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from steepest.loop import Run, Step

REFRESH = 0.2
"""Seconds between two pictures of the live bar."""

PARTS, QUIET = 20, 30.0
"""Plain lines: one for each twentieth of the run, or after so many seconds without one.

Of an open run, one whenever its steps have grown by a twentieth."""


class Screen(Protocol):
    """Where a run shows itself."""

    def step(self, step: Step) -> None:
        """Show a step, if it is time."""
        ...

    def say(self, text: str) -> None:
        """Show a line that stays."""
        ...


@contextmanager
def screen(run: Run, shown: bool, console: Console | None = None) -> Iterator[Screen]:
    """Yield the screen that fits: nothing unless shown, a live bar on a terminal, plain lines elsewhere."""
    console = console or Console(highlight=False, soft_wrap=True)
    if not shown:
        yield Dark()
    elif not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console, run)
    else:
        columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=console, refresh_per_second=1 / REFRESH) as progress:
            yield Bar(progress, progress.add_task("", total=None if run.endless else 1.0), run)


class Dark:
    """Shows nothing."""

    def step(self, step: Step) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


class Lines:
    """Plain lines, for a pipe or a file."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console, self._run = console, run
        self._facts = Facts()
        self._every = None if run.steps is None else max(1, run.steps // PARTS)
        self._last, self._part = perf_counter(), int(PARTS * run.done())

    def step(self, step: Step) -> None:
        """Print a line at each twentieth of the run, and when none was printed for long."""
        self._facts.count(step)
        now = perf_counter()
        if now - self._last < QUIET and not self._due(step):
            return
        self._last = now
        self.say(f"{place_in(self._run, step)}  {self._facts.words(step)}")

    def _due(self, step: Step) -> bool:
        if self._every is not None:
            return (step.index + 1) % self._every == 0 or self._run.over()
        part = int(PARTS * self._run.done())
        due, self._part = part > self._part, part
        return due or self._run.over()

    def say(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, markup=False)


class Bar:
    """A bar that moves, with the last loss and rate beside it; it only pulses while no end is known."""

    def __init__(self, progress: Progress, task: TaskID, run: Run) -> None:
        self._progress, self._task, self._run = progress, task, run
        self._facts = Facts()
        self._due = 0.0

    def step(self, step: Step) -> None:
        """Redraw, five times a second at most; the loss is not read in between."""
        self._facts.count(step)
        if (now := perf_counter()) < self._due and not self._run.over():
            return
        self._due, steps = now + REFRESH, self._run.steps
        words = f"{place_in(self._run, step)}  {self._facts.words(step)}"
        done = self._run.done() if steps is None else (step.index + 1) / steps
        self._progress.update(self._task, completed=done, total=None if self._run.endless else 1.0, description=words)

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(text, markup=False)


class Facts:
    """The numbers beside the progress: loss, rate, speed since the last picture, steps skipped so far."""

    def __init__(self) -> None:
        self._steps, self._skipped, self._began = 0, 0, perf_counter()

    def count(self, step: Step) -> None:
        """Count a step."""
        self._steps += 1
        self._skipped += step.skipped

    def words(self, step: Step) -> str:
        """Return the numbers in one line."""
        now = perf_counter()
        speed = self._steps / max(now - self._began, 1e-9)
        self._steps, self._began = 0, now
        skipped = f"  {self._skipped} skipped: not finite" if self._skipped else ""
        return f"loss {step.loss:.4f}  lr {step.lr:.3g}  {speed:.3g} steps/s{skipped}"


def place_in(run: Run, step: Step) -> str:
    """Return which step of how many it is, where that is known; of a run measured in time, how much of it is over."""
    if run.endless:
        return f"step {step.index + 1}"
    if run.steps is None:
        return f"step {step.index + 1}, {run.done():.0%} of the time"
    return f"step {step.index + 1}/{run.steps}"
