"""One save from the lock to the last removal, and the sentences for what can go wrong on the way."""

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steepest.checkpoint import disk
from steepest.checkpoint.lock import Lock
from steepest.checkpoint.manifest import Damaged, Manifest, Newer
from steepest.checkpoint.stage import Piece, Staged
from steepest.checkpoint.verdict import of_another_run, sound


@dataclass(frozen=True)
class Order:
    """What to save, and where."""

    step: int
    staged: Staged
    folder: Path
    keep: int
    facts: dict[str, Any]
    score: float | None

    @property
    def path(self) -> Path:
        """The folder of this checkpoint."""
        return self.folder / disk.folder_name(self.step)

    def manifest(self, run: str, files: dict[str, tuple[int, str]]) -> Manifest:
        """Return the manifest for the files that were written."""
        return Manifest(run, self.step, self.score, self.facts, files)


def write(order: Order, run: str, lock: Lock) -> Iterator[str]:
    """Save, then remove what is not to be kept; yields a sentence for each thing that went wrong."""
    pieces = order.staged.pieces()
    if lock.lost():
        yield f"{order.folder} was deleted or moved while the run went on; it is made again for step {order.step}"
    try:
        disk.make(order.folder)
        trouble = lock.take()
        if trouble is None:
            trouble = yield from _clear(order, run)
        if trouble is not None:
            yield trouble
            return
        if not order.path.exists() or sound(order.path).files != disk.digests(pieces):
            disk.check_space(order.folder, pieces)
            disk.write(order.folder, pieces, order.step, lambda files: order.manifest(run, files))
    except OSError as error:
        yield _failure(order, run, error, pieces)
        return
    yield from _prune(order, run)


def _clear(order: Order, run: str) -> Iterator[str]:
    """Look at what stands where the checkpoint goes: a damaged one is set aside, a sound one stays for now.

    Yields what is to be told; returns a sentence when nothing can be written.
    """
    if not os.path.lexists(order.path):
        return None
    try:
        there = sound(order.path)
        if there.run != run:
            raise Damaged(f"{order.path} {of_another_run(there, run)}")
    except Newer as newer:
        return f"step {order.step} was not saved: {newer}"
    except Damaged as damage:
        aside = disk.set_aside(order.path)
        yield f"an older checkpoint of step {order.step} is damaged: {damage}; it is now {aside.name}"
        return None
    return None


def _prune(order: Order, run: str) -> Iterator[str]:
    """Remove this run's checkpoints but the last ones, the best one, and the one just written."""
    own = [each for each in disk.complete(order.folder) if each.run == run]
    stay = {each.step for each in [*own[-order.keep :], *disk.best_first(own)[:1]]} | {order.step}
    for each in own:
        if each.step in stay:
            continue
        try:
            disk.remove(order.folder / disk.folder_name(each.step))
        except OSError as error:
            yield f"the old checkpoint of step {each.step} could not be removed from {order.folder}: {error.strerror}"


def _failure(order: Order, run: str, error: OSError, pieces: list[Piece]) -> str:
    """Return the sentence for a save that did not succeed."""
    try:
        good = [each.step for each in disk.complete(order.folder) if each.run == run]
    except OSError:
        good = []
    size = sum(piece.size for piece in pieces)
    last = f"the last good checkpoint is step {good[-1]}" if good else "there is no good checkpoint yet"
    if isinstance(error, disk.NoSpace):
        what = f"no space: {error.missing:,} bytes are missing for step {order.step} in {order.folder}"
    elif error.errno == errno.ENOSPC:
        missing = size - _free(order.folder)
        what = f"no space: {max(missing, 1):,} bytes are missing for step {order.step} in {order.folder}"
    elif error.errno == errno.EDQUOT:
        what = f"no space: the quota does not allow the {size:,} bytes of step {order.step} in {order.folder}"
    else:
        what = f"step {order.step} could not be written to {order.folder}: {error.strerror or error}"
    return f"{what}; training goes on, {last}"


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
