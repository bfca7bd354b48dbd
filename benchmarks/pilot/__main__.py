"""Runs a contender, sweeps rates, or shows how contenders did: `python benchmarks/pilot {run,sweep,score} --help`."""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])


def main() -> int:
    """Return the exit status."""
    from pilot.contenders import full_name
    from pilot.run import RESULTS, Order, Runner
    from pilot.workloads import chosen

    given = words().parse_args()
    if given.command == "score":
        from pilot.score import show

        return show(given.contender, given.part, given.files or sorted(RESULTS.glob("*.jsonl")))
    names = chosen(given.part, given.workload)
    if given.command == "sweep":
        with Runner(given.out or RESULTS / f"{given.kind}.jsonl", given.jobs) as runner:
            runner.sweep(given.kind, names, given.seeds)
        return 0
    contenders = [full_name(name) for name in given.contender]
    with Runner(given.out or RESULTS / "runs.jsonl", given.jobs) as runner:
        runner.make(Order(name, each, seed) for each in contenders for name in names for seed in given.seeds)
    return 0


def words() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    from pilot.run import FIRST
    from pilot.workloads import PARTS

    parser = argparse.ArgumentParser(prog="python benchmarks/pilot", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="{run,sweep,score}", required=True)
    one = commands.add_parser("run", help="make the runs of contenders")
    one.add_argument("--contender", nargs="+", required=True, help="adamw_0.01, muon_0.01, sgd_0.1, steepest")
    sweep = commands.add_parser("sweep", help="make runs at every rate until the best is not at an end")
    sweep.add_argument("--kind", choices=list(FIRST), required=True)
    score = commands.add_parser("score", help="show tables against the sweeps")
    score.add_argument("--contender", nargs="*", default=[], help="all, where none is named")
    score.add_argument("--files", nargs="*", type=Path, help="of results; benchmarks/pilot/results/*.jsonl")
    for command in (one, sweep):
        command.add_argument("--workload", default="", metavar="PREFIX")
        command.add_argument("--seeds", nargs="+", type=int, default=[0])
        command.add_argument("--out", type=Path)
        command.add_argument("--jobs", type=int, default=2 if command is one else 1)
    for command in (one, sweep, score):
        command.add_argument("--part", choices=list(PARTS), default="all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
