"""From what the user gives as log= to the loggers, before anything is trained."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steepest.loggers.function import Function
from steepest.loggers.logger import Logger
from steepest.loggers.mlflow import MLflow
from steepest.loggers.tensorboard import TensorBoard
from steepest.loggers.trackio import Trackio
from steepest.loggers.wandb import WandB
from steepest.spelling import meant

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")


def chosen(log: Any, out: Path | None, run: str) -> list[Logger]:
    """Return the loggers that log= asks for: one name or function, or several.

    Raises TypeError, ValueError for a name that is not known, comes twice or needs out=, and ImportError where its
    package is missing.
    """
    wishes = list(log) if isinstance(log, list | tuple) else [log]
    run = run or (out.name if out is not None else "") or "run"
    loggers: list[Logger] = []
    functions = 0
    for wish in wishes:
        if callable(wish):
            functions += 1
            loggers.append(Function(wish, "function" if functions == 1 else f"function-{functions}"))
        elif isinstance(wish, str):
            if wishes.count(wish) > 1:
                raise ValueError(f"log={log!r} names {wish!r} twice; once is enough.")
            loggers.append(_named(wish, out, run))
        else:
            raise TypeError(
                f"log= takes one of {', '.join(NAMES)}, a function that takes a row, or a list of these; not {wish!r}."
            )
    return loggers


def _named(name: str, out: Path | None, run: str) -> Logger:
    if name not in NAMES:
        raise ValueError(f"log={name!r} is not a logger: {meant(name, NAMES)}")
    if not _installed(name):
        raise ImportError(f"log={name!r} needs the package {name}: pip install 'steepest[{name}]'", name=name)
    if name == "tensorboard" and out is None:
        raise ValueError("log='tensorboard' writes files, and there is no folder for them: give out= as well.")
    try:
        return _made(name, out, run)
    except ImportError as error:
        raise ImportError(f"log={name!r}: the package {name} is there, but fails: {error}", name=name) from error


def _made(name: str, out: Path | None, run: str) -> Logger:
    if name == "tensorboard":
        assert out is not None
        return TensorBoard(out)
    if name == "wandb":
        return WandB(out, run)
    return MLflow(run) if name == "mlflow" else Trackio(run)


def _installed(name: str) -> bool:
    """Say whether the package is there; a mere folder of its name, as W&B makes one, is not it."""
    found = find_spec(name)
    return found is not None and found.origin is not None
