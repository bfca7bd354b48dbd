"""Tables of which cases there are, and of what the plants do."""

from collections.abc import Sequence

from pilot.table import Table, loss

from faults.case import Case
from faults.runs import Rows
from faults.verify import harms


def tables(cases: Sequence[Case]) -> list[Table]:
    """Return how many cases there are, by part and class, and by family."""
    faulty = [case for case in cases if case.causes]
    rows = []
    for part in dict.fromkeys(case.part for case in cases):
        mine = [case for case in cases if case.part == part]
        plants = [case for case in mine if case.causes]
        single = [case.planted[0] for case in plants if len(case.causes) == 1]
        controls = [case for case in mine if not case.causes]
        causes = {ids[0] for case in plants for ids in case.causes}
        rows.append(
            [part, str(len(plants)), str(len(causes)), *(str(single.count(letter)) for letter in "ABCDE"),
             str(len(plants) - len(single)), str(len(controls)), str(sum(case.scary for case in controls))]
        )  # fmt: skip
    head = ["", "plants", "causes", *"ABCDE", "two at once", "controls", "scary"]
    families = [
        [family, str(sum(case.family == family for case in faulty)), str(sum(case.family == family for case in cases))]
        for family in sorted({case.family for case in cases})
    ]
    return [Table("Cases", head, rows), Table("By family", ["", "plants", "all"], families)]


def harm_table(cases: Sequence[Case], rows: Rows) -> Table:
    """Return what each plant does, and which controls and twins do not learn."""
    found = harms(rows)
    lines = []
    for case in cases:
        harm = found[case.name]
        verdict = "hurts" if harm.hurts else "does not hurt" if case.causes else ""
        failed = sorted({row["error"] for order, row in rows.items() if order.case == case.name and row["error"]})
        notes = [*([] if harm.learns else ["does not learn"]), *failed]
        lines.append(
            [case.name, *map(loss, (harm.start, harm.twin, harm.faulty)), f"{min(harm.lost, 999):.2f}",
             f"{harm.slower:.1f}", verdict, "; ".join(notes)[:60]]
        )  # fmt: skip
    note = f"{sum(found[case.name].hurts for case in cases if case.causes)} plants hurt. lost: share of progress."
    return Table("What plants do", ["", "start", "twin", "faulty", "lost", "slower", "", ""], lines, note)
