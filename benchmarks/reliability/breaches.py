"""Faults that the proofs must find: each is planted into a life, and makes a run what other trainers are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steepest import optim
from steepest.checkpoint import disk
from steepest.checkpoint.manifest import MANIFEST
from steepest.checkpoint.stage import Piece
from steepest.loop import run, signals, sitting


def write_in_place() -> None:
    """Checkpoints grow under their final names, as with a plain `torch.save`."""

    def write(folder: Path, pieces: list[Piece], step: int, manifest: Callable[[dict], Any]) -> None:
        path = folder / disk.folder_name(step)
        path.mkdir()
        files = {piece.name: (piece.size, disk._write_file(path / piece.name, piece)) for piece in pieces}
        disk._write_file(path / MANIFEST, Piece(MANIFEST, [manifest(files).render()]))

    disk.write = write


def forget_random_state() -> None:
    """Random generators start anew after an interruption."""
    run.restore_random_state = lambda state: None


def forget_moments() -> None:
    """The optimizer starts anew after an interruption."""
    optim.Optimizer.load_state_dict = lambda self, state: None


def ignore_signals() -> None:
    """A signal is noted, and training goes on to its end."""

    @contextmanager
    def deaf() -> Iterator[Callable[[], None]]:
        with signals.interruption():
            yield lambda: None

    sitting.interruption = deaf


def leave_unsaved() -> None:
    """A signal ends the run, which is not saved."""
    save = sitting.Sitting._save

    def unless_left(self: Any, *, wait: bool = False) -> None:
        if not wait or self.ended():
            save(self, wait=wait)

    sitting.Sitting._save = unless_left


BREACHES = {
    "write in place": write_in_place,
    "forget random state": forget_random_state,
    "forget moments": forget_moments,
    "ignore signals": ignore_signals,
    "leave unsaved": leave_unsaved,
}
