"""SIGTERM and SIGINT at random moments: the command ends in order within one step and one save, and goes on later."""

import random
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from reliability.lives import Life, Nursery
from reliability.table import Row, count
from reliability.task import STEPS
from reliability.trace import Trace, differences
from reliability.watch import Watch

PATIENCE = 30.0
"""Seconds after which a life that does not end is given up."""
CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}


@dataclass
class Tally:
    """What was counted. late: most batches trained on, evaluated on, and saves, begun after a signal."""

    signals: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    late: dict[str, int] = field(default_factory=lambda: {"steps": 0, "evaluated": 0, "saves": 0})
    seconds: list[float] = field(default_factory=list)
    in_order: int = 0
    runs: int = 0
    equal: int = 0
    misses: list[str] = field(default_factory=list)


def report(times: int, seed: int, breach: str = "") -> list[Row]:
    """Send so many signals; return the rows of the table."""
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery:
        sender = Sender(nursery, Path(folder), random.Random(seed), breach)
        tally = sender.send(times)
    phases = ", ".join(f"{name} {number}" for name, number in tally.phases.most_common())
    seconds = sorted(tally.seconds)
    late = tally.late
    return [
        Row("SIGTERM or SIGINT while doing", phases, "train, evaluate, save", len(tally.phases) >= 3 or times < 50),
        Row("steps begun after the signal, at most", str(late["steps"]), "<= 1", late["steps"] <= 1),
        Row("batches evaluated after it, at most", str(late["evaluated"]), "<= 1", late["evaluated"] <= 1),
        Row("saves begun after it, at most", str(late["saves"]), "<= 1", late["saves"] <= 1),
        Row("seconds to the end of training", f"{seconds[len(seconds) // 2]:.2f} median, {seconds[-1]:.2f} worst"),
        Row("  of the longest step and save undisturbed", f"{sender.step:.2f} + {sender.save:.2f}"),
        count("exit status right, and the last step saved", tally.in_order, tally.signals),
        count("runs that ended equal to the bit", tally.equal, tally.runs),
        Row("misses", "; ".join(tally.misses[:3]) or "none", "none", not tally.misses),
    ]


class Sender:
    """Sends signals to the lives of one run after the other."""

    def __init__(self, nursery: Nursery, folder: Path, moments: random.Random, breach: str = "") -> None:
        self.tally = Tally()
        self._nursery, self._folder, self._moments, self._breach = nursery, folder, moments, breach
        self._watch = Watch(folder / "watch")
        self._run = 0
        trace = Trace(folder / "whole")
        self.step, self.save, self._training = self._undisturbed(trace)
        self._whole = trace.outcome()

    def send(self, times: int) -> Tally:
        """Send so many signals, and let the last run end."""
        trace = self._new_run()
        while self.tally.signals < times:
            if self._one_life(trace):
                trace = self._new_run()
        while not self._one_life(trace, spared=True):
            continue
        return self.tally

    def _new_run(self) -> Trace:
        self._run += 1
        return Trace(self._folder / f"run-{self._run}")

    def _start(self, trace: Trace) -> Life:
        self._watch.clear()
        order = {"out": str(trace.out), "watch": str(self._folder / "watch"), "log": str(self._folder / "log")}
        return self._nursery.start(order | {"command": "cli", "breach": self._breach})

    def _undisturbed(self, trace: Trace) -> tuple[float, float, float]:
        """Return the seconds of the longest step, of the longest save, and of training, in a run left in peace."""
        life = self._start(trace)
        began = self._wait_for(life, lambda: self._watch.read()["steps"] > 0)
        training = self._wait_for(life, lambda: self._watch.phase == "end") - began
        if life.status():
            raise RuntimeError(f"the training fails without being disturbed:\n{(self._folder / 'log').read_text()}")
        return max(trace.step_seconds()), self._watch.read()["longest_save"] / 1e6, training

    def _wait_for(self, life: Life, what: Callable[[], bool]) -> float:
        """Return the moment in which something is so, the life has ended, or patience is lost."""
        began = perf_counter()
        while not what() and not life.wait(0.0005) and perf_counter() - began < PATIENCE:
            continue
        return perf_counter()

    def _one_life(self, trace: Trace, spared: bool = False) -> bool:
        """Begin a life, and send it a signal unless it is spared or sooner over; return whether the run has ended."""
        life = self._start(trace)
        self._wait_for(life, lambda: self._watch.read()["steps"] > 0)
        ended = life.wait(None if spared else self._moments.uniform(0, self._training / 3))
        if ended or self._watch.phase == "end":
            return self._judge_end(trace, life.status())
        self._judge_signal(trace, life)
        return False

    def _judge_signal(self, trace: Trace, life: Life) -> None:
        number = self._moments.choice([signal.SIGTERM, signal.SIGINT])
        before, phase = self._interrupt(trace, life, number)
        began = perf_counter()
        seconds = self._wait_for(life, lambda: self._watch.phase == "end") - began
        status, after, done = life.status(), self._watch.read(), trace.newest()
        self.tally.signals += 1
        self.tally.phases[phase] += 1
        self.tally.seconds.append(seconds)
        for name in self.tally.late:
            self.tally.late[name] = max(self.tally.late[name], after[name] - before[name])
        saved = (trace.resumed() or [0])[-1] + after["steps"]
        right = {CODES[number], 0, -number} if done == STEPS else {CODES[number]}  # a run that was over is left anyhow
        if status in right and done == saved:
            self.tally.in_order += 1
        else:
            self.tally.misses.append(f"{number.name} in {phase}: exit status {status}, step {done} of {saved} saved")

    def _interrupt(self, trace: Trace, life: Life, number: signal.Signals) -> tuple[dict[str, int], str]:
        """Send the signal to a life that stands still; return how far it was and what it did."""
        life.stop()
        before, phase = self._watch.read(), self._watch.phase
        life.send(number)
        life.send(signal.SIGCONT)
        return before, "save" if trace.in_write(life.pid) else phase

    def _judge_end(self, trace: Trace, status: int) -> bool:
        self.tally.runs += 1
        different = differences(self._whole, trace.outcome()) if status == 0 else ["nothing"]
        if different:
            self.tally.misses.append(f"run {self._run} ended with {status} and another {', '.join(different)}")
        else:
            self.tally.equal += 1
        return True
