"""How long training waits for a save of 1 GB, beside a plain copy of the same tensors; nothing is judged here.

    python tests/checkpoint/stall.py [FOLDER]

In turns in one process, the least of all rounds and the median. The first save also gets its memory from the system.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from steepest.checkpoint import Checkpoints

ROUNDS, TENSORS, LENGTH = 9, 300, 833_334
"""300 tensors of float32, together 1.0 GB: a model, and two states for each parameter."""


def measure(folder: Path) -> dict[str, float]:
    """Return seconds for each thing."""
    third = TENSORS // 3
    tensors = [torch.randn(LENGTH) for _ in range(TENSORS)]
    tree = {
        "model": {str(place): tensor for place, tensor in enumerate(tensors[:third])},
        "optimizer": {"state": dict(enumerate(zip(tensors[third : 2 * third], tensors[2 * third :], strict=True)))},
    }
    copies = [torch.zeros(LENGTH) for _ in tensors]
    kept = Checkpoints(folder / "checkpoints", run="a1")
    first, _ = timed(lambda: kept.save(0, tree))
    times: dict[str, list[float]] = {name: [] for name in ("save returns", "copy_", "clone", "on the disk")}
    for number in range(1, ROUNDS + 1):
        kept.newest(print)  # waits for the writer, so that the copies have the memory bus for themselves
        took, found = timed(lambda: [tensor.clone() for tensor in tensors])
        times["clone"].append(took)
        del found
        times["copy_"].append(timed(lambda: [copy.copy_(each) for copy, each in zip(copies, tensors, strict=True)])[0])
        stall, _ = timed(lambda number=number: kept.save(number, tree))
        times["save returns"].append(stall)
        times["on the disk"].append(stall + timed(kept._wait)[0])
    result = {f"{name}, least": min(each) for name, each in times.items()}
    result |= {f"{name}, median": statistics.median(each) for name, each in times.items()}
    result["first save returns"] = first
    result["newest (verified)"], checkpoint = timed(lambda: kept.newest(print))
    assert checkpoint is not None
    result["read (verified again)"], _ = timed(checkpoint.read)
    assert kept.problems() == []
    kept.close()
    return result


def timed(function):
    """Return the seconds that a call takes, and what it returns."""
    began = perf_counter()
    result = function()
    return perf_counter() - began, result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        for name, seconds in measure(Path(place)).items():
            print(f"{name:24} {seconds:7.3f} s")  # noqa: T201
