"""One life of a training: the command that is given again after each death.

    python -m reliability.life '{"out": "run", "watch": "watch", "command": "fit"}'

command: "fit" calls `steepest.fit` from a program, "cli" is the command `steepest fit`. The nursery forks lives too.
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

# Besides what is used here, all that a life imports later, so that a forked one finds it there.
import llvmlite.binding  # noqa: F401
import rich.progress  # noqa: F401
import torch._dynamo  # noqa: F401
from safetensors.torch import save_file

import steepest as st
import steepest.cli.commands
import steepest.cli.task
from reliability import task, watch
from reliability.breaches import BREACHES
from steepest.loop.saving import Saving


def live(order: dict[str, Any]) -> int:
    """Train from what is there to the end, in the way that the order names; return the exit status."""
    watched = watch.Watch(Path(order["watch"]))
    watched.enter("begin")
    watch.own[:] = [watched]
    watch_saves(watched)
    if order.get("breach"):
        BREACHES[order["breach"]]()
    try:
        {"fit": program, "cli": command_line}[order["command"]](order["out"])
    finally:
        watched.enter("end")
    return 0


def program(out: str) -> None:
    """Do what a user's program does: train, keep the weights."""
    given = vars(task.task())
    result = st.fit(**given, out=out, checkpoint_every=task.EVERY, log=True)
    new = Path(f"{out}.weights.new")
    save_file(result.model.state_dict(), new)
    os.replace(new, f"{out}.weights")


def command_line(out: str) -> None:
    """Do what `steepest fit` does, its way to end the process included."""
    arguments = ["fit", f"{task.__file__}:task", "--out", out, "--checkpoint-every", str(task.EVERY)]
    sys.argv = ["steepest", *arguments]
    steepest.cli.main()


def watch_saves(watched: watch.Watch) -> None:
    """Have each save counted when it begins, and timed."""
    save = Saving.save

    def watching(self: Any, *given: Any, **options: Any) -> None:
        watched.add("saves")
        began = perf_counter()
        save(self, *given, **options)
        watched.raise_to("longest_save", int((perf_counter() - began) * 1e6))

    Saving.save = watching


if __name__ == "__main__":
    sys.exit(live(json.loads(sys.argv[1])))
