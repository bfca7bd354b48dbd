"""One run: the program of a case, with its fault or without, watched by a doctor or by nobody."""

import math
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch

from faults.case import Case, Run
from faults.doctors import doctor

LIMIT = 120
"""Seconds after which a run is given up."""


def run(case: Case, variant: str, name: str, seed: int) -> dict[str, Any]:
    """Make the run; return what is known of it, as one line of results holds it. An error is a result too.

    variant: "faulty"; "twin", the same without the fault; "control", which never had one. name: of the doctor.
    """
    prepare(seed)
    given = Run(case, variant == "faulty", seed, doctor(name, seed))
    error, final = "", math.nan
    began = ended = read = perf_counter()
    with warnings.catch_warnings(), limited():
        warnings.simplefilter("ignore")
        measure: Callable[[], float] | None = None
        try:
            measure = case.program(given)
        except Exception as raised:
            error = _words("program", raised)
        ended = perf_counter()
        said, failed = findings(given.doctors)
        read = perf_counter()
        error = error or failed
        prepare(seed)
        try:
            final = math.nan if measure is None else float(measure())
        except Exception as raised:
            error = error or _words("measure", raised)
    return {
        "case": case.name, "variant": variant, "doctor": name, "seed": seed, "findings": said,
        "final": f"{final:.7g}", "steps": sum(getattr(each, "steps", 0) for each in given.doctors),
        "seconds": round(ended - began, 4), "reading": round(read - ended, 4), "error": error,
        "own_errors": sum(len(getattr(each, "errors", ())) for each in given.doctors),
    }  # fmt: skip


def findings(doctors: list[Any]) -> tuple[list[dict[str, Any]], str]:
    """Return what the doctors of a run found, in their order, and what went wrong in asking; close those that close."""
    said, error = [], ""
    for each in doctors:
        try:
            said += [
                {key: getattr(found, key) for key in ("cause", "status", "step", "onset")} for found in each.findings
            ]
            getattr(each, "close", lambda: None)()
        except Exception as raised:
            error = error or _words("doctor", raised)
    return said, error


def _words(where: str, raised: Exception) -> str:
    return f"{where}: {type(raised).__name__}: {raised}".splitlines()[0][:200]


def prepare(seed: int) -> None:
    """Put back what a run before this one may have changed, and seed all random numbers."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def limited() -> Iterator[None]:
    """Raise TimeoutError inside when the limit is passed."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"longer than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
