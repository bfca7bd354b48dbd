"""What a run left on the disk, looked at from outside."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from steepest.checkpoint import Checkpoints
from steepest.checkpoint.disk import step_of, steps


class Trace:
    """The folder of a run."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "checkpoints"

    def newest(self) -> int:
        """Return the step of the last checkpoint that has its final name, 0 without one."""
        return max((step for step, _ in steps(self.folder)), default=0) if self.folder.is_dir() else 0

    def in_write(self, pid: int) -> bool:
        """Whether this process left a checkpoint half-written. (What was left half-removed has a lower step.)"""
        names = [path.name.split("-") for path in self.folder.glob(".tmp-step-*")]
        return any(int(name[2]) > self.newest() and int(name[3]) == pid for name in names)

    def set_aside(self) -> list[str]:
        """Return the names of checkpoints that were found damaged."""
        return [path.name for path in self.folder.glob("*") if step_of(path.name) is None and "damaged" in path.name]

    def resumed(self) -> list[int]:
        """Return the step of each time that the run went on."""
        return [event["step"] for event in self._events() if event["event"] == "resume"]

    def losses(self) -> list[dict[str, Any]]:
        """Return the rows of steps and evaluations that are in force, but for their times."""
        found: list[dict[str, Any]] = []
        for event in self._events():
            if event["event"] == "resume":  # steps are counted from 0, and an evaluation bears the count of them
                found = [each for each in found if each["step"] < event["step"] + (each["event"] == "evaluation")]
            elif event["event"] in ("step", "evaluation"):
                found.append({key: value for key, value in event.items() if key not in ("time", "seconds")})
        return found

    def step_seconds(self) -> list[float]:
        """Return what each step took."""
        return [event["seconds"] for event in self._events() if event["event"] == "step"]

    def _events(self) -> list[dict[str, Any]]:
        path = self.out / "events.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def outcome(self) -> dict[str, Any]:
        """Return all that a run ends with and that has to be the same each time; no times of the clock."""
        checkpoints = Checkpoints(self.folder, run="")
        found = checkpoints.newest(_refuse)
        checkpoints.close()
        if found is None:
            raise ValueError(f"{self.out} holds no checkpoint")
        tree = found.read()
        tree["sitting"].pop("seconds")
        del tree["seconds"]
        weights = Path(f"{self.out}.weights")
        return {
            "step": found.step, **tree, "score": found.score,
            "losses": self.losses(),
            "weights in the program": load_file(weights) if weights.exists() else {},
        }  # fmt: skip


def _refuse(sentence: str) -> None:
    raise ValueError(sentence)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of what is not the same to the bit."""
    return [name for name in one if name not in other or not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal in every bit of every tensor."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other
