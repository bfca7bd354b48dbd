"""The same deaths for Lightning and for transformers' Trainer, which go on as their documentation tells users.

Nothing here is a goal: the numbers stand beside those of `kill`. A start that fails is helped as a person would: by
removing the newest thing in the folder. What is needed, in an environment of its own for --python (or to run
`overhead` with):

    pip install -c constraints.txt torch lightning transformers accelerate pytorch-ignite -e .
"""

import random
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from reliability.lives import Life, Nursery
from reliability.table import Row
from reliability.trace import same
from reliability.watch import Watch

PEERS = {"Lightning": ("peer_lightning", "lightning"), "transformers": ("peer_transformers", "transformers")}
SHARE = 0.4
"""Moments of death are spread evenly over so much of the time from the first step to the last."""


@dataclass
class Tally:
    """What was counted."""

    kills: int = 0
    resumed: int = 0
    failed: int = 0
    runs: int = 0
    equal: int = 0
    error: str = ""


def report(kills: int, seed: int, python: str) -> list[Row]:
    """Kill each so often; return the rows of the table."""
    rows = []
    for name, (module, package) in PEERS.items():
        missing = subprocess.run(
            [python, "-c", f"import {package}, steepest, safetensors"], capture_output=True, text=True, check=False
        )
        if missing.returncode:
            rows.append(Row(name, f"not measured: {missing.stderr.strip().splitlines()[-1]} ({python})"))
            continue
        with tempfile.TemporaryDirectory() as folder, Nursery(f"reliability.{module}", python) as nursery:
            tally = Killer(nursery, Path(folder), random.Random(seed)).kill(kills)
        starts = f"{tally.resumed} of {tally.resumed + tally.failed}" + f" ({tally.error})" * bool(tally.error)
        rows += [
            Row(f"{name}: starts after a kill that raised no error", starts),
            Row(f"{name}: runs that ended with equal weights", f"{tally.equal} of {tally.runs}, {tally.kills} kills"),
        ]
    return rows


class Killer:
    """Kills the lives of one run after the other."""

    def __init__(self, nursery: Nursery, folder: Path, moments: random.Random) -> None:
        self._nursery, self._folder, self._moments = nursery, folder, moments
        self._watch, self._log = Watch(folder / "watch"), folder / "log"
        self._tally, self._run = Tally(), 0
        life = self._start(folder / "whole")
        self._begun(life)
        self._training = self._moment(life, "end")
        if life.status():
            raise RuntimeError(f"the training fails without being disturbed:\n{self._log.read_text()}")
        self._whole = torch.load(folder / "whole.weights")

    def kill(self, kills: int) -> Tally:
        """Kill so often, and let the last run end."""
        while self._tally.kills < kills:
            self._one_life(self._folder / f"run-{self._run}")
        while not self._one_life(self._folder / f"run-{self._run}", spared=True):
            continue
        return self._tally

    def _start(self, out: Path) -> Life:
        self._watch.clear()
        return self._nursery.start({"out": str(out), "watch": str(self._folder / "watch"), "log": str(self._log)})

    def _begun(self, life: Life) -> bool:
        while not self._watch.read()["steps"]:
            if life.wait(0.001):
                return False
        return True

    def _moment(self, life: Life, phase: str) -> float:
        began = perf_counter()
        while self._watch.phase != phase and not life.wait(0.001):
            continue
        return perf_counter() - began

    def _one_life(self, out: Path, spared: bool = False) -> bool:
        """Begin a life, and end it unless it is spared or sooner over; return whether the run has ended."""
        again, life = out.exists() and any(out.iterdir()), self._start(out)
        began = self._begun(life)
        if began and not life.wait(None if spared else self._moments.uniform(0, self._training * SHARE)):
            life.send(signal.SIGKILL)
        status = life.status()
        over = Path(f"{out}.weights").exists()
        if status > 0 or (status == 0 and not over):
            return self._help(out)
        self._tally.resumed += again
        if over:
            self._tally.runs += 1
            self._tally.equal += same(self._whole, torch.load(f"{out}.weights"))
            self._run += 1
            return True
        self._tally.kills += 1
        return False

    def _help(self, out: Path) -> bool:
        """Note that a start failed, and remove what it stumbled over; return that the run has not ended."""
        self._tally.failed += 1
        self._tally.error = self._tally.error or self._log.read_text().strip().splitlines()[-1][:200]
        entries = sorted(out.iterdir(), key=lambda path: path.stat().st_mtime)
        if not entries:
            raise RuntimeError(f"it fails in an empty folder:\n{self._log.read_text()[-2000:]}")
        if entries[-1].is_dir():
            shutil.rmtree(entries[-1])
        else:
            entries[-1].unlink()
        return False
