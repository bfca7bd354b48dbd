"""Measures how well a doctor names what is wrong with training: `python benchmarks/faults COMMAND --help`."""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])


def main() -> int:
    """Return the exit status."""
    given = words().parse_args()
    commands = {"list": show, "verify": verify, "run": run, "score": score, "overhead": overhead, "repair": repair}
    return commands[given.command](given)


def show(given: argparse.Namespace) -> int:
    """Print the cases and how many there are of each kind."""
    from faults.case import chosen
    from faults.listing import tables

    found = chosen(given.part, given.case, given.forms)
    for case in found:
        print(f"{case.name:48} {(case.program.__doc__ or '').splitlines()[0]}")
    for table in tables(found):
        print(table.text())
    return 0


def verify(given: argparse.Namespace) -> int:
    """Make the runs that nobody watches; print which plants hurt."""
    from faults.case import chosen
    from faults.listing import harm_table
    from faults.verify import verify as make

    found = chosen(given.part, given.case, given.forms)
    rows = make(found, given.seeds, given.jobs, given.again)
    print(harm_table(found, rows).text())
    return 0


def run(given: argparse.Namespace) -> int:
    """Make the runs that a doctor watches."""
    from faults.case import chosen
    from faults.runs import RESULTS, Order, make

    orders = [
        Order(case.name, variant, given.doctor, seed)
        for case in chosen(given.part, given.case, given.forms)
        for variant in (("faulty", "twin") if case.causes else ("control",))
        for seed in given.seeds
    ]
    make(orders, given.out or RESULTS / f"{given.doctor}.jsonl", given.jobs, given.again)
    return 0


def score(given: argparse.Namespace) -> int:
    """Print the tables; return 1 where there is no run to judge."""
    from faults.case import chosen
    from faults.runs import RESULTS, read
    from faults.score import judge
    from faults.tables import tables

    rows = read(given.out or RESULTS / f"{given.doctor}.jsonl")
    verdicts = judge(rows, chosen(given.part, given.case, given.forms))
    for table in tables(verdicts, given.misses):
        print(table.text())
    return int(not verdicts)


def overhead(given: argparse.Namespace) -> int:
    """Print what watching costs."""
    from faults.overhead import table

    print(table(given.doctor).text())
    return 0


def repair(given: argparse.Namespace) -> int:
    """Make the runs that a doctor may repair, and healthy ones; print how they end."""
    from faults.repairs import tables

    for table in tables(given.case, given.seed):
        print(table.text())
    return 0


def words() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    from faults.case import PARTS
    from faults.doctors import NAMES
    from faults.verify import SEEDS

    parser = argparse.ArgumentParser(prog="python benchmarks/faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="print the cases")
    checking = commands.add_parser("verify", help="run plants and twins unwatched, and say which plants hurt")
    running = commands.add_parser("run", help="run cases under a doctor")
    scoring = commands.add_parser("score", help="print how a doctor did")
    cost = commands.add_parser("overhead", help="measure what watching costs")
    mending = commands.add_parser("repair", help="measure what repairs of runs of fit achieve, about five minutes")
    mending.add_argument("--case", default="", metavar="PREFIX", help="of plants; ok. begins those of healthy runs")
    mending.add_argument("--seed", type=int, default=0)
    for command in (listing, checking, running, scoring):
        command.add_argument("--part", choices=PARTS, default="", help="all, where none is named")
        command.add_argument("--case", default="", metavar="PREFIX")
        command.add_argument("--forms", action="store_true", help="one case of each program: the first by name")
    for command, seeds in ((checking, SEEDS), (running, (0,))):
        command.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
        command.add_argument("--jobs", type=int, default=1, help="runs at a time")
        command.add_argument("--again", action="store_true", help="also the runs that are there already")
    for command in (running, scoring, cost):
        command.add_argument("--doctor", choices=NAMES, default="steepest")
    for command in (running, scoring):
        command.add_argument("--out", type=Path, help="a file of results other than results/DOCTOR.jsonl")
    scoring.add_argument("--misses", action="store_true", help="also the cases that were not got right")
    return parser


if __name__ == "__main__":
    sys.exit(main())
