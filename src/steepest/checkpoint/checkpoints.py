"""The checkpoints of a run: saved in a thread, read back only when every byte is as it was written."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from steepest.checkpoint import disk
from steepest.checkpoint.lock import Lock
from steepest.checkpoint.manifest import Damaged, Manifest
from steepest.checkpoint.placing import place_all
from steepest.checkpoint.reading import read_tree
from steepest.checkpoint.stage import Stage
from steepest.checkpoint.tree import copied
from steepest.checkpoint.verdict import of_another_run, sound
from steepest.checkpoint.writing import Order, write


@dataclass(frozen=True)
class Checkpoint:
    """A sound checkpoint. run: the id of the run that wrote it; facts and score: as they were given to `save`."""

    path: Path
    step: int
    run: str
    facts: dict[str, Any]
    score: float | None

    def read(self) -> dict[str, Any]:
        """Return the tree that was saved, its tensors on the CPU; ValueError when a file has changed since.

        Equal in values and types. Parameters come back as tensors; strides are kept only for views of a tensor that is
        in the tree too.
        """
        try:
            return read_tree(self.path)
        except Damaged as damage:
            raise Damaged(f"The checkpoint of step {self.step} is damaged: {damage}.") from damage


class Checkpoints:
    """The folder of a run's checkpoints, `<out>/checkpoints`, made by the first save.

    run: the id of the run, hexadecimal digits; "": that of the newest sound checkpoint, or a new one. keep: so many of
    the last are kept, 2 or more, and with them the one with the lowest score. Use from one process and any thread.
    """

    def __init__(self, folder: Path, *, run: str, keep: int = 2) -> None:
        if type(run) is not str or set(run) - set("0123456789abcdef"):
            raise ValueError(
                f"run is the id of a run in hexadecimal digits, as secrets.token_hex(8); received {run!r}."
            )
        if type(keep) is not int or keep < 2:
            raise ValueError(f"keep is 2 or more, so that one is left when the newest is damaged; received {keep!r}.")
        self._folder, self._run, self._keep = Path(folder).absolute(), run, keep
        self._lock, self._stage = Lock(self._folder), Stage()
        self._turn = threading.RLock()
        self._writer: threading.Thread | None = None
        self._problems: SimpleQueue[str] = SimpleQueue()
        self._said: set[str] = set()
        self._closed = False

    @property
    def run(self) -> str:
        """The id of the run; a new one is made for a folder that has none."""
        self._run = self._run or secrets.token_hex(8)
        return self._run

    def save(
        self,
        step: int,
        tree: dict[str, Any],
        *,
        facts: dict[str, Any] | None = None,
        score: float | None = None,
        wait: bool = False,
    ) -> None:
        """Copy the tree, then write it in a thread; wait=True: return when it is on the disk.

        facts: plain data to read without the tensors. score: lower is better; NaN is never best. A save while the last
        one is still being written waits for it. What goes wrong in writing is told by `problems`; only a tree that
        cannot be kept raises, a TypeError that names the place in it, and a save after `close` a ValueError.
        """
        if type(step) is not int or not 0 <= step < 10**18:
            raise ValueError(f"step is a whole number, 0 or more; received {step!r}.")
        if not isinstance(tree, dict):
            raise TypeError(f"The tree of a checkpoint is a dict; received an object of type {type(tree).__name__}.")
        if score is not None and not isinstance(score, int | float):
            raise TypeError(f"score is a number or None; received an object of type {type(score).__name__}.")
        plain = copied(facts or {}, "facts")  # a copy that the caller cannot change
        placed = place_all(tree)
        with self._turn:
            if self._closed:
                raise ValueError(f"Step {step} was not saved: these checkpoints are closed. Save before close().")
            self._wait()
            try:
                staged = self._stage.copy(placed)
            except MemoryError as error:
                self._complain(f"step {step} was not saved: {error}; training goes on")
                return
            self._start(Order(step, staged, self._folder, self._keep, plain, None if score is None else float(score)))
            if wait:
                self._wait()

    def problems(self) -> list[str]:
        """Return what went wrong since the last call, one sentence each."""
        return [self._problems.get() for _ in range(self._problems.qsize())]

    def newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """Return the checkpoint of the highest step that is sound, or None.

        Damaged ones above it are renamed to `<name>.damaged`, each told to `say` in a sentence. Leftovers of processes
        that died are removed. ValueError for a checkpoint of a newer format; OSError when the files cannot be read.
        """
        with self._turn:
            self._wait()
            if not self._folder.is_dir():
                return None
            mine = self._tidy(say)
            run = self._expected_run()
            for step, path in reversed(disk.steps(self._folder)):
                try:
                    found = _checked(path, run)
                except Damaged as damage:
                    self._drop(path, f"The checkpoint of step {step} is damaged: {damage}", mine, say)
                    continue
                self._run = self._run or found.run
                return found
            return None

    def best(self) -> Checkpoint | None:
        """Return the sound checkpoint with the lowest score, or None when none has a score."""
        with self._turn:
            self._wait()
            run = self._expected_run()
            own = [each for each in disk.complete(self._folder) if not run or each.run == run]
            for manifest in disk.best_first(own):
                try:
                    return _checked(self._folder / disk.folder_name(manifest.step), run)
                except Damaged:
                    continue
            return None

    def close(self) -> None:
        """Wait until the last save is written, and let another process have the folder."""
        with self._turn:
            self._wait()
            self._closed = True
            self._lock.release()

    def _start(self, order: Order) -> None:
        writer = threading.Thread(target=self._write, args=(order,), name="steepest checkpoint")
        try:
            if not threading.main_thread().is_alive():  # the interpreter ends and waits for no more threads
                raise RuntimeError
            writer.start()
        except RuntimeError:  # or there are too many threads
            self._write(order)
        else:
            self._writer = writer

    def _wait(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, order: Order) -> None:
        """Runs in the thread. Whatever happens here is told, and never raised."""
        try:
            if not self._run:
                self._run = self._expected_run() or secrets.token_hex(8)
            for sentence in write(order, self._run, self._lock):
                self._complain(sentence)
        except Exception as error:
            self._complain(f"step {order.step} could not be saved: {type(error).__name__}: {error}; training goes on")

    def _complain(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._problems.put(sentence)

    def _tidy(self, say: Callable[[str], None]) -> bool:
        """Remove leftovers if no other process writes here; return whether anything here may be renamed."""
        try:
            trouble = self._lock.take()
        except OSError:  # a folder that can only be read
            return False
        if trouble is None:
            disk.remove_leftovers(self._folder)
        else:
            say(trouble)
        return trouble is None

    def _drop(self, path: Path, sentence: str, mine: bool, say: Callable[[str], None]) -> None:
        try:
            where = f"it is now {disk.set_aside(path).name}" if mine else "it was left where it is"
        except OSError as error:
            where = f"it could not be renamed ({error.strerror})"
        say(f"{sentence}; {where}, and the one before it is tried.")

    def _expected_run(self) -> str:
        """Return the id that checkpoints must have; "" when none here has this run's id, so that any will do."""
        manifests: list[Manifest] = disk.complete(self._folder)
        return self._run if any(each.run == self._run for each in manifests) else ""


def _checked(path: Path, run: str) -> Checkpoint:
    """Return a checkpoint after reading all of it; raises as `sound` does, and Damaged when it is of another run."""
    manifest = sound(path)
    if run and manifest.run != run:
        raise Damaged(f"{path} {of_another_run(manifest, run)}")
    return Checkpoint(path, manifest.step, manifest.run, manifest.facts, manifest.score)
