"""Folders of checkpoints on the disk: a checkpoint appears whole by one rename, and disappears by one."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from steepest.checkpoint.manifest import MANIFEST, Damaged, Manifest, Newer
from steepest.checkpoint.reading import CHUNK, outline
from steepest.checkpoint.stage import Piece

_TEMPORARY = ".tmp-"


class NoSpace(OSError):
    """The disk has too few bytes left; `missing` says how many it lacks."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing:,} bytes are missing")
        self.missing = missing


def folder_name(step: int) -> str:
    """Return the name of a step's folder."""
    return f"step-{step:09d}"


def step_of(name: str) -> int | None:
    """Return the step of a folder's name, or None for a folder that holds no checkpoint in use."""
    match = re.fullmatch(r"step-([0-9]{9,18})", name)
    step = int(match[1]) if match else None
    return step if step is not None and name == folder_name(step) else None


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Return step and path of whatever is named like a checkpoint, the lowest step first; OSError as `iterdir`."""
    found = ((step_of(path.name), path) for path in folder.iterdir())
    return sorted((step, path) for step, path in found if step is not None)


def complete(folder: Path) -> list[Manifest]:
    """Return the manifests of checkpoints that have all their files in the right sizes, the lowest step first."""
    manifests = []
    for step, path in steps(folder) if folder.is_dir() else []:
        try:
            manifest = outline(path)
        except (Damaged, Newer, OSError):
            continue
        if manifest.step == step:
            manifests.append(manifest)
    return manifests


def best_first(manifests: list[Manifest]) -> list[Manifest]:
    """Return those that have a score, the lowest score first, and of equal ones the earliest."""
    scored = [each for each in manifests if each.score is not None and each.score == each.score]  # NaN is not itself
    return sorted(scored, key=lambda each: (each.score, each.step))


def make(folder: Path) -> None:
    """Make a folder with its parents, so that all are there after a loss of power."""
    if folder.is_dir():
        return
    make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_space(folder: Path, pieces: list[Piece]) -> None:
    """Raise NoSpace when the files do not fit."""
    status = os.statvfs(folder)
    block = status.f_frsize
    needed = sum(-(-piece.size // block) * block for piece in pieces) + 16 * block  # folder, manifest, journal
    free = status.f_bavail * block
    if free < needed:
        raise NoSpace(needed - free)


def write(folder: Path, pieces: list[Piece], step: int, manifest: Callable[[dict], Manifest]) -> None:
    """Write a checkpoint, complete or not at all. `manifest` makes it from {name: (size, sha256)}.

    One of the same step makes way when all of the new one is on the disk. Between the two there is a moment without
    either: a run that dies in it goes on from the one before, exactly.
    """
    temporary, path = _temporary(folder, step), folder / folder_name(step)
    try:
        temporary.mkdir()
        files = {piece.name: (piece.size, _write_file(temporary / piece.name, piece)) for piece in pieces}
        _write_file(temporary / MANIFEST, Piece(MANIFEST, [manifest(files).render()]))
        sync(temporary)
        if path.exists():
            remove(path)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder)


def digests(pieces: list[Piece]) -> dict[str, tuple[int, str]]:
    """Return size and sha256 of files that are not written."""
    found = {}
    for piece in pieces:
        digest = hashlib.sha256()
        for part in piece.parts:
            digest.update(part)
        found[piece.name] = (piece.size, digest.hexdigest())
    return found


def _write_file(path: Path, piece: Piece) -> str:
    """Write a file to the disk and return its sha256."""
    digest = hashlib.sha256()
    with path.open("xb", buffering=0) as file:
        for part in piece.parts:
            view, done = memoryview(part), 0
            while done < len(view):
                count = file.write(view[done : done + CHUNK])
                digest.update(view[done : done + count])
                done += count
        os.fsync(file.fileno())
    return digest.hexdigest()


def remove(path: Path) -> None:
    """Remove a checkpoint, which is none any more from the first moment on."""
    temporary = _temporary(path.parent, step_of(path.name) or 0)
    os.rename(path, temporary)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that died while writing or removing have left; only for the holder of the lock."""
    for path in folder.glob(_TEMPORARY + "*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is kept for a look and not used; return its new path."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged" + (f"-{number}" if number > 1 else ""))):
        number += 1
    os.rename(path, aside)
    sync(path.parent)
    return aside


def _temporary(folder: Path, step: int) -> Path:
    return folder / f"{_TEMPORARY}step-{step}-{os.getpid()}-{secrets.token_hex(4)}"
