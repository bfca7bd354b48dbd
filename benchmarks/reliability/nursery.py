"""Forks lives from a process that has imported everything, and has made no tensor, no thread and no random number.

    python -m reliability.nursery MODULE

For each line of its input, an order as JSON, it forks a child that calls `live(order)` of the module, and prints the
child's process id; for the line "reap" it waits for the child and prints its exit status.
"""

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    module = importlib.import_module(sys.argv[1])
    print("ready", flush=True)
    child = 0
    for line in sys.stdin:
        if line == "reap\n":
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(f"the process to fork from has {threads} threads: importing {sys.argv[1]} began them")
        child = os.fork()
        if child == 0:
            sys.exit(born(module, json.loads(line)))
        print(child, flush=True)


def born(module: Any, order: dict[str, Any]) -> int:
    """Live as a program of its own: input from nowhere, output to the log."""
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return module.live(order)


if __name__ == "__main__":
    main()
