"""A process that trains with one logger until it is killed: python killed.py <folder> <logger>."""

import json
import os
import signal
import sys
from pathlib import Path

from planted import to_file, train

from steepest.loggers import Loggers


def kills_itself(path):
    """A function that keeps rows in a file and, at the rows that `<path>.kills` names, kills the process first."""
    write, plan = to_file(path), Path(f"{path}.kills")

    def function(row):
        steps = json.loads(plan.read_text())
        if row["step"] in steps:
            plan.write_text(json.dumps([step for step in steps if step != row["step"]]))
            os.kill(os.getpid(), signal.SIGKILL)
        write(row)

    return function


def main(out, name):
    rows = Path(out) / "rows.jsonl"
    log = {"function": to_file(rows), "suicide": kills_itself(rows)}.get(name, name)
    loggers = Loggers(log, out=Path(out), run="killed", config={"lr": 0.5})
    train(loggers, out, pause=0.003)
    loggers.close("finished")
    sys.stdout.write("\n".join(loggers.problems()))


if __name__ == "__main__":
    main(*sys.argv[1:])
