"""The tables of a doctor's score."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from pilot.table import Table

from faults.score import Verdict, middle_delay, share, wilson

GOALS = (
    ("top-1 of plants that hurt; the goal is for those not tuned on", ">= .80, aim .90"),
    ("detected, of plants that hurt", ">= .92, aim .97"),
    ("compound faults, both named", ">= .5"),
    ("healthy runs, controls and twins with any finding", "<= 2 %"),
    ("all runs with a wrong proven cause", "<= 1 %"),
    ("median delay, class A", "<= 3 steps"),
    ("median delay, classes D and E", "<= 30 steps"),
    ("named causes that are proven", ">= .85"),
    ("silence on the repaired twin", ">= .98"),
)


def tables(verdicts: Sequence[Verdict], misses: bool = False) -> list[Table]:
    """Return all tables; with misses, also the cases that were not got right."""
    found = [goals(verdicts), faults(verdicts), alarms(verdicts), by_family(verdicts), costs(verdicts)]
    return [table for table in [*found, *([missed(verdicts)] if misses else [])] if table.rows]


def goals(verdicts: Sequence[Verdict]) -> Table:
    """Return what was to be reached, and what was."""
    faulty, sound = of_kind(verdicts, "fault"), of_kind(verdicts, "control", "twin", "benign")
    compound = [each for each in faulty if len(each.case.causes) > 1]
    named = [each for each in faulty if each.named]
    values = (
        part(share(faulty, lambda each: each.first)),
        part(share(faulty, lambda each: bool(each.named))),
        part(share(compound, lambda each: each.all_named)),
        part(share(sound, lambda each: each.alarm)),
        part(share(verdicts, lambda each: each.wrong_proven)),
        number(middle_delay(of_class(faulty, "A"))),
        number(middle_delay(of_class(faulty, "DE"))),
        part(share(named, lambda each: each.first_proven)),
        part(share(of_kind(verdicts, "twin"), lambda each: not each.named)),
    )
    rows = [[what, value, goal] for (what, goal), value in zip(GOALS, values, strict=True)]
    return Table("Against the goals", ["", "here", "goal"], rows)


def faults(verdicts: Sequence[Verdict]) -> Table:
    """Return how plants that hurt were named, by class."""
    faulty = of_kind(verdicts, "fault")
    single = [each for each in faulty if len(each.case.causes) == 1]
    groups = {"all": faulty, **{name: of_class(single, name) for name in "ABCDE"}}
    groups["two at once"] = [each for each in faulty if len(each.case.causes) > 1]
    for severity in (1, 2, 3):
        groups[f"severity {severity}"] = [each for each in faulty if each.case.severity == severity]
    groups["in mid-run"] = [each for each in faulty if each.case.onset > 1]
    head = [
        "", "runs", "top-1", "95 %", "strict", "top-3", "detected", "all named", "right+proven", "wrong proven", "delay"
    ]  # fmt: skip
    rows = [[name, *line(group)] for name, group in groups.items() if group]
    return Table(
        "Plants that hurt",
        head,
        rows,
        "strict: without ids that name the same fault. delay: median steps after the earliest decidable one.",
    )


def line(group: Sequence[Verdict]) -> list[str]:
    """Return the cells of one line of faults."""
    first = share(group, lambda each: each.first)
    low, high = wilson(first, len(group))
    return [
        str(len(group)), part(first), f"{part(low)}-{part(high)}",
        part(share(group, lambda each: each.strict)), part(share(group, lambda each: each.third)),
        part(share(group, lambda each: bool(each.named))), part(share(group, lambda each: each.all_named)),
        part(share(group, lambda each: each.first and each.first_proven)),
        part(share(group, lambda each: each.wrong_proven)), number(middle_delay(group)),
    ]  # fmt: skip


def alarms(verdicts: Sequence[Verdict]) -> Table:
    """Return what was said where nothing is wrong."""
    controls = of_kind(verdicts, "control")
    asked: list[Callable[[Verdict], bool]] = [
        lambda each: each.alarm, lambda each: bool(each.named), lambda each: each.wrong_proven
    ]  # fmt: skip
    groups = {
        "ordinary controls": [each for each in controls if not each.case.scary],
        "scary controls": [each for each in controls if each.case.scary],
        "repaired twins": of_kind(verdicts, "twin"),
        "plants that do not hurt": of_kind(verdicts, "benign"),
    }
    rows = [
        [name, str(len(group)), *(part(share(group, what)) for what in asked)]
        for name, group in groups.items()
        if group
    ]  # fmt: skip
    note = "alarm: any finding; of a plant that does not hurt, any but its own name."
    return Table("Where nothing is wrong", ["", "runs", "alarm", "any finding", "wrong proven"], rows, note)


def by_family(verdicts: Sequence[Verdict]) -> Table:
    """Return top-1, detection and alarms of each family."""
    rows = []
    for family in sorted({each.case.family for each in verdicts}):
        mine = [each for each in verdicts if each.case.family == family]
        faulty, sound = of_kind(mine, "fault"), of_kind(mine, "control", "twin", "benign")
        cells = [share(faulty, lambda each: each.first), share(faulty, lambda each: bool(each.named))]
        rows.append(
            [family, str(len(faulty)), *map(part, cells), str(len(sound)), part(share(sound, lambda each: each.alarm))]
        )
    return Table("By family", ["", "plants that hurt", "top-1", "detected", "others", "alarm"], rows)


def costs(verdicts: Sequence[Verdict]) -> Table:
    """Return what watching costs and whether it changes anything."""
    known = [each for each in verdicts if each.unwatched is not None]
    if not known:
        return Table("What watching costs", [""], [])
    errors = [each for each in verdicts if each.row["error"] and not (each.unwatched or {}).get("error")]
    rows = [
        ["runs that were also made unwatched", str(len(known))],
        ["of them ending otherwise when watched", str(sum(each.changed for each in known))],
        ["seconds added, median", f"{median(each.cost for each in known):.3f}"],
        ["time, in times of the unwatched run, median", f"{median(map(ratio, known)):.2f}"],
        ["runs with an error that unwatched have none", str(len(errors))],
        ["checks that failed themselves", str(sum(each.row["own_errors"] for each in verdicts))],
    ]
    note = "Endings can be compared where both were run on one machine. Times of short runs; see the command overhead."
    return Table("What watching costs", ["", ""], rows, note)


def ratio(verdict: Verdict) -> float:
    """Return how many times as long the watched run took."""
    alone = verdict.unwatched["seconds"] if verdict.unwatched else math.nan
    return 1 + verdict.cost / max(alone, 1e-3)


def missed(verdicts: Sequence[Verdict]) -> Table:
    """Return the runs that were not got right, and what was said."""
    wrong = [each for each in verdicts if (not each.first if each.kind == "fault" else each.alarm)]
    rows = [[each.case.name, each.kind, " ".join(each.named) or "-"] for each in wrong]
    return Table("Not right", ["", "", "said"], rows)


def of_kind(verdicts: Iterable[Verdict], *kinds: str) -> list[Verdict]:
    """Return those of these kinds."""
    return [each for each in verdicts if each.kind in kinds]


def of_class(verdicts: Iterable[Verdict], letters: str) -> list[Verdict]:
    """Return those whose first planted cause is of one of the classes."""
    return [each for each in verdicts if each.case.causes[0][0][0] in letters]


def part(value: float) -> str:
    """Return a share in three digits."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def number(value: float) -> str:
    """Return a number of steps."""
    return "-" if math.isnan(value) else f"{value:.0f}"
