"""The commands, each a thin function over the package; what they need is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

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
    steps: Annotated[int | None, typer.Option(help="Updates to make; about two minutes' worth when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of everything random.")] = 0,
) -> None:
    """Watch a small GPT learn the sources of Python's standard library."""
    from steepest.cli.demo import run_demo

    if not run_demo(steps, seed):
        raise typer.Exit(130)


@app.command()
def fit(
    task: Annotated[str, typer.Argument(help="FILE.py:FUNCTION, where the function returns a steepest.Task.")],
    steps: Annotated[int | None, typer.Option(help="Updates to make, instead of the task's budget.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data, instead of the task's budget.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run's events.jsonl.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of everything random.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where to train, as cuda; not given: where the model is.")] = None,
) -> None:
    """Train what a function in a file describes."""
    from steepest.cli.task import fit_task

    if fit_task(task, steps=steps, epochs=epochs, out=out, seed=seed, device=device).status == "interrupted":
        raise typer.Exit(130)


@bench.command("loop")
def bench_loop() -> None:
    """Measure what the loop costs over one written by hand, in microseconds a step."""
    from steepest.cli.loop_cost import report

    report()
