"""What is compared, by name.

`adamw_0.01`, `muon_0.01`, `sgd_0.1`, `standardised_adamw_0.01`: an optimizer at a rate, as a sweep has it.
`adamw_default`, `prodigy`, `schedulefree`, `lr_finder`, `lightning_finder`: what asks for no rate.
`steepest`: `steepest.fit`; `steepest[RATE=0.02,precision=bf16]` with constants of `steepest.pilot.measure` replaced,
which are in capitals and may be given in the environment variable `PILOT`, and with arguments of `fit`.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from pilot import automatic, by_hand, finders
from pilot.job import Job
from pilot.standardise import standardised

__all__ = ["AUTOMATIC", "KINDS", "Job", "full_name", "train"]

KINDS: dict[str, tuple[Callable[[nn.Module, float], list[Optimizer]], Callable[[float], float]]] = {
    "adamw": (by_hand.adamw, by_hand.cosine),
    "standardised_adamw": (by_hand.adamw, by_hand.cosine),
    "muon": (by_hand.muon, by_hand.linear),
    "sgd": (by_hand.sgd, by_hand.cosine),
}
"""Name -> how to make the optimizers for a rate, and how the rate falls after the warm-up."""

AUTOMATIC: dict[str, Callable[[Job], nn.Module]] = {
    "adamw_default": automatic.adamw_default,
    "prodigy": automatic.prodigy,
    "schedulefree": automatic.schedule_free,
    "lr_finder": finders.lr_finder,
    "lightning_finder": finders.lightning_finder,
}


def full_name(name: str) -> str:
    """Return the name with what PILOT replaces, so that results of one name are of one contender."""
    given = os.environ.get("PILOT", "").replace(" ", "")
    return f"{name}[{given}]" if name == "steepest" and given else name


def train(name: str, job: Job) -> nn.Module:
    """Train by the contender of that name; return the model. Raises ValueError when there is none."""
    if name.partition("[")[0] == "steepest":
        return _steepest(job, name[len("steepest") :].strip("[]"))
    if name in AUTOMATIC:
        return AUTOMATIC[name](job)
    kind, _, rate = name.rpartition("_")
    if kind not in KINDS:
        known = ["steepest", *AUTOMATIC, *(f"{kind}_0.01" for kind in KINDS)]
        raise ValueError(f"No contender is called {name!r}; there are {', '.join(known)}.")
    make, shape = KINDS[kind]
    given = standardised(job) if kind == "standardised_adamw" else job
    return by_hand.loop(given, make(job.model, float(rate)), by_hand.after_warm_up(shape), job.steps)


def _steepest(job: Job, replaced: str) -> nn.Module:
    import steepest as st

    module: Any = importlib.import_module("steepest.pilot.measure")
    before, arguments = dict(vars(module)), {}
    try:
        for name, value in (each.split("=", 1) for each in filter(None, replaced.split(","))):
            if not name.isupper():
                arguments[name] = value
            elif name not in before:
                raise ValueError(f"PILOT replaces constants of steepest.pilot.measure, and {name!r} is none of them.")
            else:
                setattr(module, name, value if isinstance(before[name], str) else float(value))
        result = st.fit(job.model, job.loss, job.batches, steps=job.steps, seed=job.seed, log=False, **arguments)
    finally:
        vars(module).update(before)
    if result.plan is not None:
        told = {name: result.plan.settings[name] for name in ("rate", "regret") if name in result.plan.settings}
        job.told.update(told, spent=result.plan.spent)
    return result.model
