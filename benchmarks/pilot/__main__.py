"""Measures how good the pilot is, a command for each question: `python benchmarks/pilot COMMAND --help`."""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])


def main() -> int:
    """Return the exit status."""
    from pilot.experiments import EXPERIMENTS

    given = words().parse_args()
    if getattr(given, "suite", None):
        from pilot.suite import join

        join(given.suite)
    if given.command in EXPERIMENTS:
        return trial(given)
    return {"run": run, "sweep": sweep, "score": score, "report": report}[given.command](given)


def run(given: argparse.Namespace) -> int:
    """Make the runs of contenders."""
    from pilot.contenders import full_name
    from pilot.run import RESULTS, Order, Runner

    contenders, names = [full_name(name) for name in given.contender], chosen(given)
    with Runner(given.out or RESULTS / "runs.jsonl", given.jobs, given.suite) as runner:
        runner.make(Order(name, each, seed) for each in contenders for name in names for seed in given.seeds)
    return 0


def sweep(given: argparse.Namespace) -> int:
    """Make the runs of a sweep."""
    from pilot.run import RESULTS, Runner
    from pilot.standardise import applies
    from pilot.workloads import every

    names = [name for name in chosen(given) if given.kind != "standardised" or applies(every()[name])]
    with Runner(given.out or RESULTS / f"{given.kind}.jsonl", given.jobs, given.suite) as runner:
        runner.sweep(given.kind, names, given.seeds)
    return 0


def score(given: argparse.Namespace) -> int:
    """Print the tables; return 1 where there is none."""
    from pilot import compared, stress
    from pilot.experiments import compared_files, file_of
    from pilot.run import read
    from pilot.score import lines

    rows = lines(given.files or compared_files())
    if given.suite:
        from pilot.suite import sweeps

        rows = sweeps(given.suite) + rows
    tables = compared.tables(rows, part(given), given.contender)
    if not given.files:
        tables += stress.tables(read(file_of("stress")))
    for table in tables:
        print(table.text())
    return int(not tables)


def report(given: argparse.Namespace) -> int:
    """Write the page."""
    from pilot.report import write

    print(f"wrote {write()}")
    return 0


def trial(given: argparse.Namespace) -> int:
    """Make what is missing of an experiment's runs, and print its tables."""
    from pilot.experiments import experiment, file_of
    from pilot.run import Runner

    module = experiment(given.command)
    orders = [order for order in module.orders() if order.workload.startswith(given.workload)]
    jobs, points = getattr(module, "JOBS", given.jobs), getattr(module, "POINTS", None)
    with Runner(given.out or file_of(given.command), jobs, points=points) as runner:
        runner.make(orders)
    for table in module.tables(runner.rows.values()):
        print(table.text())
    return 0


def part(given: argparse.Namespace) -> str:
    """Return which workloads are meant: those of the suite where one is given, else all that are here."""
    return given.part or ("suite" if given.suite else "all")


def chosen(given: argparse.Namespace) -> list[str]:
    """Return their names."""
    from pilot.workloads import chosen

    return chosen(part(given), given.workload)


def words() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    from pilot.experiments import EXPERIMENTS
    from pilot.run import FIRST
    from pilot.workloads import PARTS

    parser = argparse.ArgumentParser(prog="python benchmarks/pilot", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    one = commands.add_parser("run", help="make the runs of contenders")
    one.add_argument("--contender", nargs="+", required=True, help="steepest, prodigy, adamw_0.01, ...")
    sweep = commands.add_parser("sweep", help="make runs at every rate until the best is not at an end")
    sweep.add_argument("--kind", choices=list(FIRST), required=True)
    score = commands.add_parser("score", help="print how contenders did against the sweeps")
    score.add_argument("--contender", nargs="*", default=[], help="all, where none is named")
    score.add_argument("--files", nargs="*", type=Path, help="of results; benchmarks/pilot/results/*.jsonl")
    for command in (one, sweep):
        command.add_argument("--seeds", nargs="+", type=int, default=[0])
    for command in (one, sweep, score):
        command.add_argument("--part", choices=list(PARTS))
        command.add_argument(
            "--suite", type=Path, metavar="PATH", help="workloads of PATH/workloads/public_*.py instead"
        )
    trials = [commands.add_parser(name, help=about) for name, about in EXPERIMENTS.items()]
    for command in (one, sweep, *trials):
        command.add_argument("--workload", default="", metavar="PREFIX")
        command.add_argument("--out", type=Path)
        command.add_argument("--jobs", type=int, default=2 if command is one else 1, help="runs at a time")
    commands.add_parser("report", help="write docs/pilot-results.md from all results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
