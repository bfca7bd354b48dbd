"""Makes runs in worker processes of one thread each, and writes one line of JSON for each; what is there stays.

A line of versions stands before the runs that were made with them.
"""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Order(NamedTuple):
    """A run to make."""

    case: str
    variant: str
    doctor: str
    seed: int


Row = dict[str, Any]
Rows = dict[Order, Row]
ABSENT: Row = {"findings": [], "reading": 0.0, "error": "", "own_errors": 0}
"""What a line of results says by not saying it."""


def read(path: Path) -> Rows:
    """Return the runs in a file, none if it is not there. A last line that was broken off is left out."""
    if not path.exists():
        return {}
    text = path.read_text()
    lines = [ABSENT | json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return {Order(*(row[key] for key in Order._fields)): row for row in lines if "case" in row}


def make(orders: Iterable[Order], path: Path, jobs: int = 1, again: bool = False) -> Rows:
    """Make those of the orders that are not in the file, add them to it, and return all that are asked for.

    again: make all of them, in place of those that are in the file.
    """
    rows, asked = read(path), list(dict.fromkeys(orders))
    if again:
        forget(asked, path)
    missing = [order for order in asked if again or order not in rows]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        os.environ["OMP_NUM_THREADS"] = "1"
        context = multiprocessing.get_context("spawn")
        with path.open("a") as file, ProcessPoolExecutor(jobs, context, warm) as pool:
            file.write(json.dumps({"versions": versions()}) + "\n")
            for future in as_completed([pool.submit(perform, order) for order in missing]):
                row = future.result()
                told = {key: value for key, value in row.items() if value != ABSENT.get(key)}
                file.write(json.dumps(told) + "\n")
                file.flush()
                rows[Order(*(row[key] for key in Order._fields))] = row
                show(row)
    return {order: rows[order] for order in asked}


def forget(orders: Iterable[Order], path: Path) -> None:
    """Take runs out of a file."""
    if path.exists():
        gone = set(orders)
        lines = [(json.loads(line), line) for line in path.read_text().splitlines()]
        kept = [line for row, line in lines if "case" not in row or Order(*(row[k] for k in Order._fields)) not in gone]
        path.write_text("".join(f"{line}\n" for line in kept))


def perform(order: Order) -> dict[str, Any]:
    """Make a run, in a worker."""
    from faults.case import named
    from faults.harness import run

    return run(named(order.case), *order[1:])


def show(row: dict[str, Any]) -> None:
    """Print what became of a run."""
    said = " ".join(f"{found['cause']}{'!' * (found['status'] == 'proven')}" for found in row["findings"])
    seconds = row["seconds"] + row["reading"]
    print(
        f"{row['case']:44} {row['variant']:7} {row['doctor']:11} {row['seed']} {row['final']:>12} {seconds:6.2f} s "
        f"{said} {row['error']}".rstrip()
    )
    sys.stdout.flush()


def versions() -> dict[str, Any]:
    """Return what the numbers may depend on; a commit with a + is one with changes that are not committed."""
    import torch

    from steepest import __version__

    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "steepest": __version__, "commit": commit, "torch": str(torch.__version__), "python": platform.python_version(),
        "machine": platform.machine(), "cores": os.cpu_count(),
    }  # fmt: skip


def warm() -> None:
    """Let a first optimizer step import what it imports, so that no run of a worker pays for it."""
    import torch

    torch.set_num_threads(1)
    for name in ("SGD", "Adam", "AdamW", "RMSprop"):
        layer = torch.nn.Linear(2, 2)
        optimizer = getattr(torch.optim, name)(layer.parameters(), lr=0.1)
        layer(torch.ones(2, 2)).sum().backward()
        optimizer.step()
