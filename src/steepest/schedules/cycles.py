"""Learning rates that come back: one cycle, triangles, warm restarts."""

from dataclasses import KW_ONLY, dataclass

from steepest.schedules.schedule import Schedule
from steepest.schedules.settings import Growth, Part, Period, Share, count
from steepest.schedules.shapes import above, half_cosine


@dataclass(frozen=True, repr=False)
class one_cycle(Schedule):
    """Rise along a cosine to the full rate, then fall along one (Smith & Topin 2017, arXiv:1708.07120).

    The same numbers as `torch.optim.lr_scheduler.OneCycleLR`, whose first and last step are taken at `start` and
    `floor` themselves. A run of one step takes it at the full rate.

    rise: the fraction of the run that goes up. start, floor: the first and the last factor.
    """

    rise: Share = 0.3
    _: KW_ONLY
    start: Part = 1 / 25
    floor: Part = 1 / 250_000

    def factor(self, step: int, steps: int) -> float:
        """Return the rise or fall between start, 1 and floor; step `rise * steps - 1` has the full rate."""
        peak, last = max(0.0, self.rise * steps - 1), steps - 1
        if step < peak:
            return above(self.start, 1 - half_cosine(step / peak))
        return above(self.floor, half_cosine((step - peak) / (last - peak)) if last > peak else 1.0)


@dataclass(frozen=True, repr=False)
class cyclic(Schedule):
    """Go up and down in triangles, beginning at the floor (Smith 2015, arXiv:1506.01186).

    period: from one low point to the next, as a fraction of the run or a number of steps, at least 2 steps.
    """

    period: Period
    _: KW_ONLY
    floor: Part = 0.25

    def factor(self, step: int, steps: int) -> float:
        """Return the height of the triangle, raised to the floor."""
        period = max(2, count(self.period, steps))
        place = step % period / period
        return above(self.floor, 1 - abs(2 * place - 1))


@dataclass(frozen=True, repr=False)
class restarts(Schedule):
    """Fall along a cosine and begin again at the full rate (Loshchilov & Hutter 2016, arXiv:1608.03983).

    A run should end where a cycle ends: `restarts(0.25)` has four, `restarts(1/7, growth=2)` three, each twice as long
    as the one before.

    first: length of the first cycle, as a fraction of the run or a number of steps. growth: of each cycle over the
    one before.
    """

    first: Period
    _: KW_ONLY
    growth: Growth = 1.0
    floor: Share = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return the cosine of the cycle that the step is in."""
        start, end = self._cycle(step, float(self.first if isinstance(self.first, int) else self.first * steps))
        return above(self.floor, half_cosine((step - start) / (end - start)))

    def _cycle(self, step: int, length: float) -> tuple[int, int]:
        length = max(1.0, length)
        # Equal cycles are many in a long run: begin the search one cycle early instead of at the first.
        start = length * max(0, step // length - 1) if self.growth == 1 else 0.0
        while round(start + length) <= step:
            start, length = start + length, length * self.growth
        return round(start), round(start + length)
