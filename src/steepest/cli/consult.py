"""The doctor's commands: a script watched, a task examined, a demonstration of a cause, the catalogue."""

import json
import sys
from dataclasses import asdict

import typer

from steepest.cli.task import load_task
from steepest.doctor import examine
from steepest.doctor.cause import Cause, catalogue, demonstration
from steepest.doctor.demo import demonstrate
from steepest.doctor.examine import describe
from steepest.doctor.script import run_script
from steepest.loop import checks
from steepest.record import Finding
from steepest.snapshot import seed_everything
from steepest.spelling import meant

HEALTHY, SUSPECTED, PROVEN, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
"""What the commands exit with."""


def examine_task(reference: str, *, seed: int, as_json: bool) -> int:
    """Examine a task; return the exit status."""
    checks.check_seed(seed)
    seed_everything(seed)
    task = load_task(reference)
    found = examine(task.model, task.loss, task.data, optimizer=task.optimizer, batch_size=task.batch_size, seed=seed)
    typer.echo(json.dumps([asdict(each) for each in found.findings]) if as_json else found)
    return status(found.findings)


def watch_script(path: str, arguments: list[str], *, as_json: bool) -> int:
    """Run a script under watch; return the exit status.

    Findings go to stderr, so that stdout is the script's alone; as JSON they are the last line of stdout.
    """
    watched = run_script(path, arguments)
    if as_json:
        told = json.dumps(
            [asdict(each) | {"of": one.name} for one in watched.seen for each in one.findings], default=str
        )
        (sys.__stdout__ or sys.stdout).write(f"\n{told}\n")
    else:
        (sys.__stderr__ or sys.stderr).write(f"\n{watched}\n")
    if watched.interrupted:
        return INTERRUPTED
    return FAILED if watched.failed else status(watched.findings)


def show_demonstration(number: str, *, as_json: bool) -> int:
    """Run the program that shows a cause, and print what the doctor says of it; return the exit status."""
    known(number)
    program = demonstration(number)
    findings, _ = demonstrate(program)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in findings]))
        return status(findings)
    typer.echo(f"{number}: {program.__doc__}")
    for finding in findings:
        typer.echo("\n".join(describe(finding)))
    healthy, _ = demonstrate(program, faulty=False)
    typer.echo(f"without the fault: {', '.join(each.cause for each in healthy) or 'nothing is found'}")
    return status(findings)


def show_causes(number: str | None) -> None:
    """Print the catalogue, or all that is known of one cause."""
    if number is None:
        for each, same in catalogue().items():
            typer.echo(f"{each}  {same[0].name:<32}{same[0].symptom}")
        return
    for cause in known(number):
        typer.echo("\n".join(_page(cause)))
    typer.echo(f"demonstration: steepest doctor --demo {number}: {demonstration(number).__doc__}")


def _page(cause: Cause) -> list[str]:
    return [
        f"{cause.id}  {cause.name}",
        f"symptom: {cause.symptom}",
        f"how it is found: {cause.proof}",
        f"fix: {cause.fix}",
    ]


def known(number: str) -> tuple[Cause, ...]:
    """Return the causes of that id; ValueError where there is none."""
    found = catalogue().get(number.upper())
    if found is None:
        raise ValueError(f"There is no cause {number!r}; {meant(number, list(catalogue()))}")
    return found


def status(findings: list[Finding]) -> int:
    """Return what to exit with."""
    if not findings:
        return HEALTHY
    return PROVEN if any(each.status == "proven" for each in findings) else SUSPECTED
