"""Momentum remembers so many steps that it overshoots."""

from collections.abc import Sequence
from typing import Any

import torch

from steepest.doctor.cause import EVENT, MARK, Found, cause
from steepest.doctor.causes.d01_rate_too_high import LOWER
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

MOST, USUAL = 0.95, 0.9
"""What remembers more is suspected; what is tried instead."""

SHARE = 0.6
"""Of what a tenth of the rate gains: with less, it is the rate."""


def _found(lab: Lab) -> Found | None:
    high = _high(lab)
    if not high:
        return None
    gained = better(lab, _usual(high))
    slower = better(lab, LOWER[0])
    if gained is None or (slower is not None and gained.share_of(slower) < SHARE):
        return None
    value = max(_first(each) for each in high.values())
    summary = (
        f"Momentum of {value:g} remembers {1 / max(1e-9, 1 - value):.0f} steps and overshoots: with 0.9 the loss ends "
        f"at {gained.changed:.3g} after {gained.steps} steps made again, and not at {gained.base:.3g}."
    )
    return Found(summary, {"momentum": value, **gained.evidence}, proven=True)


def _high(lab: Lab) -> dict[str, Any]:
    return {name: value for name, value in _momenta(lab).items() if _first(value) > MOST}


def _usual(high: dict[str, Any]) -> Change:
    settings = {name: USUAL if name == "momentum" else (USUAL, *value[1:]) for name, value in high.items()}
    return Change("momentum of 0.9", settings=settings, prepare=_forget)


def _momenta(lab: Lab) -> dict[str, Any]:
    group = lab.history.latest[-1].settings[0] if lab.history.latest else {}
    return {name: group[name] for name in ("momentum", "betas") if group.get(name)}


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple | list) else value)


def _forget(twin: Any) -> None:
    twin.optimizer.state.clear()


FIX = "Lower momentum (beta1) to 0.9, or the rate by as much as momentum was raised: rate / (1 - momentum) counts."


@cause("D11", "momentum-too-high", fix=FIX, when=MARK, weight=1.9, masks="D01 D02 D03 C05")
def swings(lab: Lab) -> Found | None:
    """The loss swings slowly and ever wider, or lags behind.

    From the first weights, over the same batches, momentum of 0.9 gets further than the run; a tenth of the rate does
    not get as far.
    """
    return _found(lab)


@cause("D11", "momentum-too-high", fix=FIX, when=EVENT, weight=1.9, masks="D01 D02 D03 C05")
def swings_out(lab: Lab) -> Found | None:
    """The loss blows up after ever wider swings.

    The steps that led there, made again with momentum of 0.9, do not.
    """
    return _found(lab)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Remember ten steps."""
    return [_usual(_high(lab))]


def demo(run: Demo) -> None:
    """Momentum of 0.999."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.999 if run.faulty else 0.9)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
