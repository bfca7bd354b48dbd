"""SIGKILL at random moments: the same command, given again, makes the run that nothing had interrupted."""

import random
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from reliability.lives import Life, Nursery
from reliability.table import Row, count
from reliability.trace import Trace, differences
from reliability.watch import Watch

SHARE = 0.3
"""Moments of death are spread evenly over so much of the time that a whole run takes."""
FRESH = 0.15
"""So many lives begin in a new interpreter; the others are forked from one that has imported everything."""


@dataclass
class Tally:
    """What was counted. phases: where death came; misses: every start or end that was not as it has to be."""

    kills: int = 0
    in_write: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    anew: int = 0
    runs: int = 0
    equal: int = 0
    misses: list[str] = field(default_factory=list)


def report(kills: int, seed: int, breach: str = "") -> list[Row]:
    """Kill so often; return the rows of the table."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery:
        tally = Killer(nursery, Path(folder), random.Random(seed), breach).kill(kills)
    phases = ", ".join(f"{name} {number}" for name, number in tally.phases.most_common())
    few = kills < 50  # too few to judge where they fell
    everywhere = few or all(tally.phases[phase] for phase in ("import", "resume", "train", "evaluate"))
    starts, enough = tally.resumed + tally.anew, kills // 4
    return [
        Row("SIGKILL", f"{tally.kills} in {perf_counter() - began:.0f} s"),
        Row("  inside a checkpoint write", str(tally.in_write), f">= {enough}", few or tally.in_write >= enough),
        Row("  while doing", phases, "each once", everywhere),
        Row("starts that went on from the newest checkpoint", f"{tally.resumed} of {starts}"),
        Row("  the others: killed before there was one", str(tally.anew)),
        count("runs that ended equal to the bit", tally.equal, tally.runs),
        Row("misses", "; ".join(tally.misses[:3]) or "none", "none", not tally.misses),
    ]


class Killer:
    """Kills the lives of one run after the other, and looks at what they leave."""

    def __init__(self, nursery: Nursery, folder: Path, moments: random.Random, breach: str = "") -> None:
        self.tally = Tally()
        self._nursery, self._folder, self._moments, self._breach = nursery, folder, moments, breach
        self._watch = Watch(folder / "watch")
        self._run = -1
        self._whole, self._importing, self._training = self._undisturbed()

    def kill(self, kills: int) -> Tally:
        """Kill so often, and let the last run end."""
        trace = self._new_run()
        while self.tally.kills < kills:
            if self._one_life(trace):
                trace = self._new_run()
        while not self._one_life(trace, spared=True):
            continue
        return self.tally

    def _undisturbed(self) -> tuple[dict[str, Any], float, float]:
        """Return what a run ends with that nothing disturbs, and the seconds before and in it."""
        trace, began = self._new_run(), perf_counter()
        life = self._start(trace, fresh=FRESH > 0)
        while self._watch.phase == "import" and not life.wait(0.001):
            continue
        imported = perf_counter()
        while self._watch.phase != "end" and not life.wait(0.001):
            continue
        training = perf_counter() - imported
        if life.status():
            raise RuntimeError(f"the training fails without being disturbed:\n{self._log.read_text()}")
        return trace.outcome(), imported - began, training

    def _new_run(self) -> Trace:
        self._run += 1
        return Trace(self._folder / f"run-{self._run}")

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _start(self, trace: Trace, fresh: bool) -> Life:
        self._watch.clear()
        order = {"out": str(trace.out), "watch": str(self._folder / "watch"), "log": str(self._log), "command": "fit"}
        return self._nursery.start(order | {"breach": self._breach}, fresh)

    def _one_life(self, trace: Trace, spared: bool = False) -> bool:
        """Begin a life, and end it unless it is spared or sooner over; return whether the run has ended."""
        newest, known = trace.newest(), len(trace.resumed())
        fresh = self._moments.random() < FRESH
        delay = self._moments.uniform(0, self._training * SHARE + fresh * self._importing)
        life = self._start(trace, fresh)
        ended = life.wait(None if spared else delay)
        if not ended:
            life.send(signal.SIGKILL)
        status = life.status()
        phase = self._watch.phase
        self._judge_start(trace, newest, known)
        if status == 0 or (phase == "end" and not ended):  # killed with nothing left to do: no kill to be counted
            self._judge_end(trace)
            return True
        if ended:
            self._miss(f"a start failed with exit status {status}: {self._last_words()}")
            return True
        self.tally.kills += 1
        self.tally.in_write += trace.in_write(life.pid)
        self.tally.phases["resume" if phase == "begin" and newest else phase] += 1
        return False

    def _judge_start(self, trace: Trace, newest: int, known: int) -> None:
        """Where the life came so far as to go on, it has to go on from the newest checkpoint."""
        for step in trace.resumed()[known:]:
            if step != newest:
                self._miss(f"went on from step {step}, although step {newest} was there")
            elif step:
                self.tally.resumed += 1
            else:
                self.tally.anew += 1
        if trace.set_aside():
            self._miss(f"a checkpoint was damaged: {', '.join(trace.set_aside())}")

    def _judge_end(self, trace: Trace) -> None:
        self.tally.runs += 1
        different = differences(self._whole, trace.outcome())
        if different:
            self._miss(f"run {self._run} ended with another {', '.join(different)}")
        else:
            self.tally.equal += 1

    def _miss(self, sentence: str) -> None:
        if sentence not in self.tally.misses:
            self.tally.misses.append(sentence)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
