"""The commands, each a thin function over the package; what they need is imported when they run."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train PyTorch models by gradient descent. With --debug, errors show a traceback.",
)
bench = typer.Typer(no_args_is_help=True, help="Measure: every published number comes from one of these.")
app.add_typer(bench, name="bench")


@app.command()
def demo(
    steps: Annotated[
        int | None, typer.Option(help="Updates to make; about two minutes' worth when not given.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of everything random.", min=0)] = 0,
) -> None:
    """Watch a small GPT learn the sources of Python's standard library."""
    from steepest.cli.demo import run_demo

    if not run_demo(steps, seed):
        raise typer.Exit(130)


@app.command()
def fit(  # noqa: PLR0913
    task: Annotated[str, typer.Argument(help="FILE.py:FUNCTION, where the function returns a steepest.Task.")],
    steps: Annotated[int | None, typer.Option(help="Updates to make, instead of the task's budget.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data, instead of the task's budget.")] = None,
    time: Annotated[
        str | None, typer.Option(help="How long to train, as 30m or 2h, instead of the task's budget.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for events and checkpoints; a run in it goes on.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="In steps; not given: every five minutes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of everything random.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where to train, as cuda; not given: where the model is.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bf16, fp16 or bf16-true.")] = None,
    microbatch: Annotated[str | None, typer.Option(help="Samples that go through the model at once, or auto.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read the data.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model with torch.compile.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only operators that repeat to the bit.")
    ] = False,
    repair: Annotated[
        str | None, typer.Option(help="off: a doctor watches; ask, auto: it also repairs what it can prove.")
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, mlflow or trackio; more than once.")
    ] = None,
) -> None:
    """Train what a function in a file describes; the same command again goes on where the last one ended.

    Without a budget, here and in the task, training goes on until Ctrl-C, which begins a decay of the rate to zero.
    """
    from steepest.cli.task import fit_task

    budget = {"steps": steps, "epochs": epochs, "time": time}
    given = {"precision": precision, "microbatch": _size(microbatch), "workers": workers}
    result = fit_task(
        task, budget, {name: value for name, value in given.items() if value is not None}, out=out, seed=seed,
        checkpoint_every=checkpoint_every, device=device, compile=compile, deterministic=deterministic, repair=repair,
        log=log or True,
    )  # fmt: skip
    if result.status in ("interrupted", "terminated") and out is not None:
        typer.echo(f"to go on: {shlex.join(['steepest', *sys.argv[1:]])}")
    if result.status == "interrupted":
        raise typer.Exit(130)


def _size(microbatch: str | None) -> int | str | None:
    return int(microbatch) if microbatch is not None and microbatch.isdecimal() else microbatch


@app.command()
def plan(
    task: Annotated[str, typer.Argument(help="FILE.py:FUNCTION, where the function returns a steepest.Task.")],
    steps: Annotated[int | None, typer.Option(help="Updates to make, instead of the task's budget.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write the plan to, as plan.json.")] = None,
) -> None:
    """Say how a task would be trained, and why, without training it."""
    from steepest.cli.task import plan_task

    made = plan_task(task, steps, seed=seed)
    typer.echo(str(made))
    if out is not None:
        made.save(out)


@app.command()
def verify(out: Annotated[Path, typer.Argument(help="The folder of a run, or of one checkpoint.")]) -> None:
    """Read every checkpoint of a run, and say of each whether it is as it was written; exit 1 if one is not."""
    from steepest.checkpoint import verify

    verdicts = verify(out)
    for verdict in verdicts:
        typer.echo(f"{verdict.path}: {verdict.fault or 'sound'}")
    if not verdicts:
        raise ValueError(f"There is no checkpoint in {str(out)!r}.")
    if any(verdict.fault for verdict in verdicts):
        raise typer.Exit(1)


class _OfScript(TyperCommand):
    """A command whose options, after the name of a script, are the script's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave what stands after a script to it."""
        ctx.allow_interspersed_args = not any(each.endswith(".py") for each in args)
        return super().parse_args(ctx, args)


@app.command(cls=_OfScript)
def doctor(
    script: Annotated[
        str | None, typer.Argument(help="A training script, train.py, or FILE.py:FUNCTION that returns a Task.")
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Of the script.")] = None,
    demo: Annotated[str | None, typer.Option(help="Show a cause by a small program that has it, as A01.")] = None,
    seed: Annotated[int, typer.Option(help="Of a task: its model and everything random.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print findings as JSON, in the last line of stdout.")] = False,
) -> None:
    """Run a training script as it is, and say what goes wrong in it; or examine a task, in 64 steps on a copy.

    Options of this command stand before the script, the script's own after it. Exit 1 if something is suspected, 2 if
    it is proven, 3 if the script itself stopped with an error, 130 if it was interrupted.
    """
    from steepest.cli.consult import examine_task, show_demonstration, watch_script

    if (script is None) == (demo is None):
        raise ValueError("Name a script, train.py, a task, FILE.py:FUNCTION, or a cause, --demo A01; one of them.")
    if script is None:
        raise typer.Exit(show_demonstration((demo or "").upper(), as_json=json))
    if script.endswith(".py"):
        raise typer.Exit(watch_script(script, arguments or [], as_json=json))
    if arguments:
        raise ValueError(f"A task takes no arguments; received {shlex.join(arguments)}.")
    raise typer.Exit(examine_task(script, seed=seed, as_json=json))


@app.command()
def causes(cause: Annotated[str | None, typer.Argument(help="An id, as A01; not given: all of them.")] = None) -> None:
    """List what the doctor looks for, or tell all of one cause."""
    from steepest.cli.consult import show_causes

    show_causes(None if cause is None else cause.upper())


@app.command()
def rules(name: Annotated[str | None, typer.Argument(help="A rule; not given: all of them.")] = None) -> None:
    """List the update rules, or show one as its paper writes it."""
    from steepest.cli.rule_pages import show_rules

    show_rules(name)


@app.command()
def check(
    optimizer: Annotated[str, typer.Argument(help="MODULE:CLASS, as torch.optim:AdamW; any optimizer, ours or not.")],
    options: Annotated[list[str] | None, typer.Argument(help="Its options, as lr=0.1 fused=True.")] = None,
) -> None:
    """Try an optimizer against the laws that every optimizer must keep; exit 1 if it breaks one."""
    from rich.console import Console

    from steepest import testing

    sys.path.insert(0, "")  # a module in the working directory is found, as with python -m
    verdicts = testing.report(optimizer, **testing.parse_options(options or []))
    console = Console(highlight=False)
    console.print(verdicts if console.is_terminal else str(verdicts), markup=False, soft_wrap=not console.is_terminal)
    if not verdicts.good:
        raise typer.Exit(1)


@bench.command("step")
def bench_step(table: Annotated[str | None, typer.Argument(help="One table; not given: all.")] = None) -> None:
    """Measure an update by every rule beside torch and other libraries."""
    from steepest.cli.step_cost import report

    report(table)


@bench.command("exact")
def bench_exact() -> None:
    """Measure how far each rule is from its formula, and from torch."""
    from steepest.cli.exactness import report

    report()


@bench.command("loop")
def bench_loop() -> None:
    """Measure what the loop costs over one written by hand, in microseconds a step."""
    from steepest.cli.loop_cost import report

    report()
