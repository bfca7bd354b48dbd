"""Runs a training script as it is, under watch, and says what was found."""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steepest.doctor.examine import describe
from steepest.doctor.script_ears import listening
from steepest.doctor.script_patient import Patient
from steepest.doctor.script_watch import Attendance
from steepest.record import Finding

PACKAGE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Seen:
    """What was seen of one optimizer. name: of it and its model; how: long, and how well. findings: best first."""

    name: str
    how: str
    findings: list[Finding]

    def lines(self) -> list[str]:
        """Return what is to be said of it."""
        told = [line for each in self.findings for line in describe(each)]
        return [f"{self.name}, {self.how}", *(told or ["nothing is found"])]


@dataclass
class Watched:
    """What came of a script.

    seen: of each optimizer. notes: what else is to be said. errors: what went wrong in the doctor itself.
    failed: whether the script stopped with an error, or with a status that is not 0; interrupted: by Ctrl-C.
    """

    seen: list[Seen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed: bool = False
    interrupted: bool = False

    @property
    def findings(self) -> list[Finding]:
        """Of all optimizers, best first of each."""
        return [finding for each in self.seen for finding in each.findings]

    def __str__(self) -> str:
        lines = [line for each in self.seen for line in each.lines()] + self.notes
        if self.errors:
            lines += [f"{len(self.errors)} checks of the doctor failed themselves; the first: {self.errors[0]}"]
        return "\n".join(lines)


def run_script(path: str, arguments: Sequence[str]) -> Watched:
    """Run a script as `python path *arguments` would, and watch how it trains.

    Its output, numbers and files are what they would be. A traceback of it is written to stderr. Raises ValueError if
    there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"There is no file {path!r}; expected a Python script, as in steepest doctor train.py.")
    attendance, watched = Attendance(), Watched()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__)
    kept = sys.argv, sys.path[:], sys.modules["__main__"], sys.excepthook
    sys.argv, sys.path[0:0] = [path, *arguments], [str(file.absolute().parent)]
    sys.modules["__main__"], sys.excepthook = main, sys.__excepthook__
    try:
        with listening(attendance):
            _run(file, main, watched)
        _conclude(attendance, watched)
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"], sys.excepthook = kept
    return watched


def _run(file: Path, main: types.ModuleType, watched: Watched) -> None:
    """Run the code of a script; say of an error what Python would."""
    try:
        exec(compile(file.read_bytes(), str(main.__file__), "exec", dont_inherit=True), main.__dict__)
    except SystemExit as stopped:
        watched.failed = stopped.code not in (None, 0)
        if watched.failed and not isinstance(stopped.code, int):
            print(stopped.code, file=sys.stderr)  # noqa: T201  # as Python does
    except KeyboardInterrupt as error:
        watched.interrupted = True
        _show(error)
    except BaseException as error:
        watched.failed = True
        _show(error)
    sys.stdout.flush()


def _show(error: BaseException) -> None:
    """Write a traceback without the frames of this package, or leave it to the hook that the script has set."""
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    told = traceback.TracebackException.from_exception(error)
    waiting: list[Any] = [told]
    while waiting:
        each = waiting.pop()
        if each is not None:
            each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(PACKAGE)]
            waiting += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]
    sys.stderr.write("".join(told.format()))


def _conclude(attendance: Attendance, watched: Watched) -> None:
    """Ask what was found, for the last time."""
    for patient in attendance.patients:
        findings: list[Finding] = []
        try:
            findings = patient.findings()
        except Exception as error:
            watched.errors.append(f"at the end: {type(error).__name__}: {error}")
        watched.seen.append(Seen(*_told(patient), findings))
        watched.errors += patient.doctor.errors
    watched.errors += attendance.errors
    if attendance.unseen:
        watched.notes.append(f"{attendance.unseen} more optimizers are not watched: four of a script are")
    if not attendance.patients:
        watched.notes.append("no training was seen: no torch optimizer held parameters of a module that was called")


def _told(patient: Patient) -> tuple[str, str]:
    model, optimizer = type(patient.doctor.model).__name__, type(patient.optimizer).__name__
    if patient.why:
        known = f"loss(model, batch) is not known, so nothing was tried on copies: {patient.why}"
    elif not patient.checked:
        known = "no loss was seen"
    else:
        known = f"loss(model, batch) was read, and came out to the bit for {patient.checked} batches"
    return f"{model} under {optimizer}", f"{patient.lab.now} steps; {known}"
