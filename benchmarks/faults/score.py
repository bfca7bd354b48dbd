"""What a doctor's runs come to: each is judged by what was planted, and whether it hurts."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from faults.case import Case
from faults.runs import Order, Row, Rows
from faults.verify import FILE, harms


@dataclass(frozen=True)
class Verdict:
    """A watched run. kind: "fault", a plant that hurts; "benign", one that does not; "twin"; "control".

    named: causes in the order of the findings; proven: those among them that an intervention confirmed. unwatched: the
    same run without a doctor, where there is one.
    """

    case: Case
    kind: str
    row: Row
    named: tuple[str, ...]
    proven: frozenset[str]
    unwatched: Row | None

    @property
    def accepted(self) -> frozenset[str]:
        """Return all ids that are right."""
        return frozenset(each for ids in self.case.causes for each in ids)

    @property
    def first(self) -> bool:
        """Return whether the first name is right."""
        return bool(self.named) and self.named[0] in self.accepted

    @property
    def strict(self) -> bool:
        """Return whether the first name is the very id that was planted, or one of the two."""
        return bool(self.named) and self.named[0] in {ids[0] for ids in self.case.causes}

    @property
    def third(self) -> bool:
        """Return whether one of the first three names is right."""
        return bool(self.accepted & set(self.named[:3]))

    @property
    def all_named(self) -> bool:
        """Return whether every planted fault has a right name."""
        return all(set(ids) & set(self.named) for ids in self.case.causes)

    @property
    def first_proven(self) -> bool:
        """Return whether the first name was confirmed by an intervention, right or not."""
        return bool(self.named) and self.named[0] in self.proven

    @property
    def wrong_proven(self) -> bool:
        """Return whether a name that is not right is called proven."""
        return bool(self.proven - self.accepted)

    @property
    def alarm(self) -> bool:
        """Return whether anything was said; of a plant that does not hurt, anything but its own name."""
        return bool(set(self.named) - self.accepted) if self.kind == "benign" else bool(self.named)

    @property
    def delay(self) -> float:
        """Return how many steps after the earliest possible one a right name was said; infinite where none was."""
        said = [found["step"] for found in self.row["findings"] if found["cause"] in self.accepted]
        return max(0, min(said) - self.case.decidable) if said else math.inf

    @property
    def changed(self) -> bool:
        """Return whether watching changed how the run ended."""
        return self.unwatched is not None and self.unwatched["final"] != self.row["final"]

    @property
    def cost(self) -> float:
        """Return the seconds that watching added, NaN where it is not known."""
        if self.unwatched is None:
            return math.nan
        return self.row["seconds"] + self.row["reading"] - self.unwatched["seconds"]


def judge(rows: Rows, cases: Iterable[Case], verified: Rows | None = None) -> list[Verdict]:
    """Return a verdict for each run of the cases. A plant that was not verified counts as one that hurts."""
    from faults.runs import read

    verified = read(FILE) if verified is None else verified
    hurting = {name: harm.hurts for name, harm in harms(verified).items()}
    known, found = {case.name: case for case in cases}, []
    for order, row in sorted(rows.items()):
        if order.case not in known:
            continue
        kind = order.variant
        if kind == "faulty":
            kind = "fault" if hurting.get(order.case, True) else "benign"
        named = tuple(dict.fromkeys(each["cause"] for each in row["findings"]))
        proven = frozenset(each["cause"] for each in row["findings"] if each["status"] == "proven")
        unwatched = verified.get(Order(order.case, order.variant, "none", order.seed))
        found.append(Verdict(known[order.case], kind, row, named, proven, unwatched))
    return found


def share(verdicts: Iterable[Verdict], what: Callable[[Verdict], bool]) -> float:
    """Return the share of which that is true, NaN of none."""
    found = [what(each) for each in verdicts]
    return sum(found) / len(found) if found else math.nan


def wilson(part: float, runs: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval of a share."""
    if not runs:
        return math.nan, math.nan
    z = 1.96
    middle = part + z * z / (2 * runs)
    half = z * math.sqrt(part * (1 - part) / runs + z * z / (4 * runs * runs))
    return max(0.0, middle - half) / (1 + z * z / runs), (middle + half) / (1 + z * z / runs)


def middle_delay(verdicts: Iterable[Verdict]) -> float:
    """Return the median delay of the right names, NaN where there is none."""
    found = [each.delay for each in verdicts if math.isfinite(each.delay)]
    return median(found) if found else math.nan
