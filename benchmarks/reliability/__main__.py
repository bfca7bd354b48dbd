"""Runs the proofs: `python benchmarks/reliability` all of them, with a name that one; exit 1 where a goal is missed."""

import argparse
import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])

PROOFS: dict[str, tuple[str, dict[str, Any]]] = {
    "kill": ("SIGKILL at random moments", {"kills": 200, "seed": 0, "breach": ""}),
    "term": ("SIGTERM and SIGINT at random moments", {"times": 100, "seed": 0, "breach": ""}),
    "peers": (
        "Other trainers, written as their documentation says, killed at random moments",
        {"kills": 20, "seed": 0, "python": sys.executable},
    ),
    "overhead": ("Linear(8, 1), batch 8, SGD, one thread: microseconds a step", {}),
    "memory": ("Peak memory of reading what is larger than memory, shuffled", {"seconds": 20.0}),
    "activations": ("A transformer of 12 blocks, activations recomputed against kept", {}),
    "damage": ("Every file of a checkpoint damaged in every way", {}),
    "disk": ("A full disk, a folder that cannot be written, a clock that jumps", {}),
}
"""Name -> what it is about, and its options with their defaults."""


def main() -> int:
    """Return the exit status."""
    given = vars(words().parse_args())
    chosen, met = given.pop("proof"), []
    for name, (title, options) in PROOFS.items():
        if chosen in (None, name):
            met.append(proved(name, title, given if chosen else options))
    return not all(met)


def proved(name: str, title: str, options: dict[str, Any]) -> bool:
    """Print the table of one proof; return whether its goals are met. One that fails itself does not end the others."""
    from reliability.table import Row, show

    try:
        rows = importlib.import_module(f"reliability.{name}").report(**options)
    except Exception as error:
        traceback.print_exception(error)
        rows = [Row("the proof itself", f"{type(error).__name__}: {error}".splitlines()[0], "to be made", False)]
    return show(f"{name}: {title}", rows)


def words() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/reliability", description=__doc__)
    proofs = parser.add_subparsers(dest="proof", metavar="PROOF")
    for name, (title, options) in PROOFS.items():
        proof = proofs.add_parser(name, help=title, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for option, default in options.items():
            proof.add_argument(f"--{option}", type=type(default), default=default, help=" ")
    return parser


if __name__ == "__main__":
    sys.exit(main())
