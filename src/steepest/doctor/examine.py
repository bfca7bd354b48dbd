"""What can be known of a training before it is begun: some steps on a copy, under watch."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest.data import open_source, to_device
from steepest.doctor.cause import catalogue
from steepest.doctor.doctor import Doctor, watch
from steepest.loop import Loss, checks
from steepest.record import Finding
from steepest.snapshot import same_random_state_after, seed_everything

STEPS, SECONDS = 64, 30.0
"""Steps that are made on the copy, at the most, and seconds after which none is begun."""


@dataclass(frozen=True)
class Examination:
    """What came of it.

    findings: best first. looked_for: id -> name of all causes that were. errors: what went wrong in the doctor itself.
    """

    findings: list[Finding]
    looked_for: dict[str, str]
    errors: list[str]
    steps: int

    def __str__(self) -> str:
        found = {each.cause: each for each in self.findings}
        lines = [f"{len(found)} of {len(self.looked_for)} causes found in {self.steps} steps on a copy"]
        lines += [line for each in self.findings for line in describe(each)]
        passed = [f"{number} {name}" for number, name in self.looked_for.items() if number not in found]
        lines += ["passed:", *(f"  {each}" for each in passed)]
        return "\n".join(lines)


def describe(finding: Finding) -> list[str]:
    """Return the lines that tell of a finding."""
    where = f" ({finding.where})" if finding.where else ""
    return [f"{finding.cause} {finding.name}, {finding.status}{where}", f"  {finding.summary}", f"  {finding.fix}"]


def examine(
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Examination:
    """Look for what is wrong before training is begun; at most 64 steps and half a minute, on a copy.

    model, loss, data: as `steepest.fit` takes them. optimizer: of the model; None: AdamW at 1e-3, and nothing is said
    about rate, decay and momentum. The model, the
    optimizer and the random number generators stay as they are; batches of an iterator that are taken are gone.
    `print(...)` is a table. Raises what the loss raises.
    """
    checks.check_model(model)
    checks.check_loss_function(loss)
    checks.check_seed(seed)
    with same_random_state_after(), closing(open_source(data, batch_size, seed)) as source:
        seed_everything(seed)
        twin, rule = copy.deepcopy((model, optimizer))
        rule = rule or torch.optim.AdamW(twin.parameters(), lr=1e-3)
        device = next((parameter.device for parameter in twin.parameters()), torch.device("cpu"))
        doctor = watch(twin, rule, loss)
        try:
            _train(twin, rule, loss, doctor(to_device(batch, device) for batch in islice(_epochs(source), STEPS)))
            return _told(doctor, own=optimizer is None)
        finally:
            doctor.close()


def _epochs(source: Any) -> Iterator[Any]:
    number = 0
    while True:
        batches = 0
        for batch in source.epoch(number):
            batches += 1
            yield batch
        number += 1
        if not batches:
            return


def _train(model: nn.Module, optimizer: Optimizer, loss: Loss, batches: Iterable[Any]) -> None:
    end = monotonic() + SECONDS
    for batch in batches:
        optimizer.zero_grad()
        value = loss(model, batch)
        (value["loss"] if isinstance(value, dict) else value).backward()
        optimizer.step()
        if monotonic() > end:
            return


def _told(doctor: Doctor, own: bool) -> Examination:
    """own: the optimizer is not the user's, so that nothing is to be said about its settings (class D)."""
    looked_for = {number: same[0].name for number, same in catalogue().items() if not (own and number[0] == "D")}
    findings = [each for each in doctor.findings if each.cause in looked_for]
    return Examination(findings, looked_for, list(doctor.errors), doctor.lab.now)
