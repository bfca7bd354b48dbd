"""Repairs of a run: what was found is undone in it once a replay has proven that this helps, and is looked at again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from steepest.doctor.cause import Cause, Found, repair_of
from steepest.doctor.repair_memory import Attendant
from steepest.doctor.repair_proof import Proof, best, in_full, is_sound, ladder, origins, proofs, typical
from steepest.doctor.repair_run import Undo, change_run, take_over
from steepest.doctor.repair_trial import STEPS, WORSE, Before
from steepest.doctor.replay import Change
from steepest.loop import Run

MOST = 6
"""Repairs of one run."""


@dataclass
class Repair:
    """A repair of a run.

    step: when it was made; cause, name: against what, "" and "blow-up" where no cause is known; change: in words.
    since: the step from which on the run was made again with it, so many steps. before, after: the loss in the median
    of the latest batches. status: "made"; then "held" or "undone" by a comparison with what the run would be without
    it, whose losses are in `check`, or "not enough", where it blew up again; "declined"; "none", where no replay has
    proven any; "stopped". tried: each change that was, with the loss that it comes to.
    """

    step: int
    cause: str
    name: str
    change: str = ""
    since: int = 0
    steps: int = 0
    before: float = math.nan
    after: float = math.nan
    status: str = "made"
    tried: list[dict[str, Any]] = field(default_factory=list)
    check: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        what = f"repair of {self.cause} {self.name} at step {self.step}".replace("  ", " ")
        if self.status in ("none", "stopped"):
            return f"{what}: {self.status}, for no replay has proven any of {len(self.tried)} that were tried"
        if self.check:
            own, without = self.check["with"], self.check["without"]
            return f"{what}: {self.change} {self.status}, for the loss is {own:.4g} with it, {without:.4g} without"
        again = f"{self.steps} steps made again from step {self.since}" if self.steps else "from now on"
        return (
            f"{what}: {self.change}, {again}; the loss is {self.after:.4g} then, not {self.before:.4g}: {self.status}"
        )


@dataclass
class Trial:
    """A repair that is not yet checked, and how it is undone."""

    repair: Repair
    change: Change
    before: Before
    undo: Undo


class Repairs:
    """Sees to a run between two batches. consents: is asked before each repair. told: hears of each, and of its check.

    The ladder: nothing, where a loss comes down by itself; a batch that the run skips; then what the cause of a finding
    offers as `repair`, or rungs against blow-ups of unknown cause; and the end, where weights are lost.
    """

    def __init__(
        self, doctor: Attendant, run: Run, consents: Callable[[Repair], bool], told: Callable[[Repair], None]
    ) -> None:
        self._doctor, self._run, self._consents, self._told = doctor, run, consents, told
        self.made: list[Repair] = []
        self._filters: list[Change] = []
        self._tried: set[tuple[str, int]] = set()
        self._trial: Trial | None = None

    def mended(self, batch: Any) -> Any:
        """Return a batch that comes from the source as repairs would have it."""
        if self._trial is not None and self._doctor.current is not None:
            self._trial.before.batches[self._doctor.current.number + 1] = batch
        for change in self._filters:
            batch = change.batch(batch) if change.batch is not None else batch
        return batch

    def look(self, batch: Any) -> Any:
        """Do what is due between two steps; return the batch of the next one."""
        doctor, trial = self._doctor, self._trial
        doctor.note_snapshots()
        if trial is not None and (doctor.lab.event is not None or doctor.lab.now >= trial.before.twin.step + STEPS):
            self._check(trial)
        foremost, event = doctor.foremost(), doctor.lab.event
        if foremost is None and event is None:
            return batch
        key = (
            "" if foremost is None else foremost[0].id,
            doctor.looked if event is None else -1 - self._run.position.step,
        )
        if key in self._tried or self._trial is not None:
            return batch
        self._tried.add(key)
        return self._see_to(foremost, batch)

    def _see_to(self, foremost: tuple[Cause, Found] | None, batch: Any) -> Any:
        """Repair what was found, if it can be; return the batch."""
        doctor, lost = self._doctor, not is_sound(self._run.model)
        cause, name = ("", "blow-up") if foremost is None else (foremost[0].id, foremost[0].name)
        repair = Repair(self._run.position.step, cause, name)
        proof: Proof | None = None
        with doctor.aside():  # which also keeps an error in it from the run
            proof = self._proven(foremost, lost, repair)
        if proof is not None and self._agreed(repair, proof):
            return self._make(proof, repair, batch)
        if lost:
            self._stop(repair)
        if doctor.has_missed:
            doctor.forget_missed()  # the run has skipped that batch: this is the repair
        elif repair.tried and proof is None:
            self._tell(repair, "none")
        return batch

    def _proven(self, foremost: tuple[Cause, Found] | None, lost: bool, repair: Repair) -> Proof | None:
        """Return the change to make: the best of what the cause offers, or the first rung that passes."""
        lab = self._doctor.lab
        if len(self.made) >= MOST:
            return None
        known = foremost if foremost is not None and foremost[1].proven else None
        offered = repair_of(known[0]) if known is not None else None
        starts = list(origins(lab, self._doctor.good)) or [None]
        stages = []
        if known is not None and offered is not None:
            stages.append(offered(lab, known[1]))
        if lab.event is not None and (lost or (known is None and not self._doctor.has_missed)):
            stages += [[rung] for rung in ladder(lab)]
        tries = (self._best(stage, start, repair) for stage in stages for start in starts)
        return next((each for each in tries if each is not None), None)

    def _best(self, changes: Sequence[Change], start: Any, repair: Repair) -> Proof | None:
        """Return the best of several changes that passes all the way, None where none does; note what was tried."""
        tried = list(proofs(self._doctor.lab, changes, start))
        repair.tried += [{"change": each.change.name, "loss": each.after, "passed": each.passed} for each in tried]
        whole = (in_full(self._doctor.lab, each) for each in best(tried)[:2])
        return next((each for each in whole if each.passed), None)

    def _agreed(self, repair: Repair, proof: Proof) -> bool:
        repair.change, repair.before, repair.after = proof.change.name, proof.before, proof.after
        repair.since, repair.steps = proof.origin.step, len(proof.updates) if proof.rewinds else 0
        agreed = self._consents(repair)
        if not agreed:
            self._tell(repair, "declined")
        return agreed

    def _make(self, proof: Proof, repair: Repair, batch: Any) -> Any:
        """Make a repair, and learn the past that the run has with it."""
        doctor, run, change = self._doctor, self._run, proof.change
        before = Before.of(doctor.lab)
        trial = Trial(repair, change, before, change_run(run, change))
        if proof.rewinds:
            take_over(run, proof.made.twin)
        doctor.remember(proof, run.gradient.loss)
        before.twin.step = doctor.lab.now
        if change.batch is not None and doctor.current is not None:
            before.batches[doctor.current.number] = doctor.current.batch
            doctor.current.batch, batch = change.batch(doctor.current.batch), change.batch(batch)
            self._filters.append(change)
        self._trial = trial
        self._tell(repair, "made")
        return batch

    def _check(self, trial: Trial) -> None:
        """Keep a repair with which the run is no worse than it would be without; undo another."""
        self._trial, doctor, lab = None, self._doctor, self._doctor.lab
        if lab.event is not None:
            self._tell(trial.repair, "not enough")
            return
        control: Proof | None = None
        own = without = math.nan
        with doctor.aside():
            control, without = trial.before.without(lab, trial.change)
            own = typical(lab, lab.twin())
        trial.repair.check = {"with": own, "without": without, "steps": lab.now - trial.before.twin.step}
        if control is None or own <= without + WORSE * abs(without):
            doctor.verify()
            self._tell(trial.repair, "held")
            return
        trial.undo()
        take_over(self._run, control.made.twin)
        self._filters = [each for each in self._filters if each is not trial.change]
        doctor.remember(control, self._run.gradient.loss)
        self._tell(trial.repair, "undone")

    def _stop(self, repair: Repair) -> None:
        """Put the last good weights back, and end the run."""
        lab = self._doctor.lab
        good = next(
            (each for each in (self._doctor.good, lab.recent, lab.start) if each and is_sound(each.model)), None
        )
        if good is not None:
            take_over(self._run, good)
        self._tell(repair, "stopped")
        there = "there are none that are finite" if good is None else f"the model has those of step {good.step} again"
        raise FloatingPointError(
            f"The weights are not finite at step {repair.step}, and no repair was made: {repair}. Of older weights "
            f"{there}. See what the doctor has found for the line to change."
        )

    def _tell(self, repair: Repair, status: str) -> None:
        repair.status = status
        if repair not in self.made and status == "made":
            self.made.append(repair)
        self._told(repair)
