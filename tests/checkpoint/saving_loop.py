"""A process to be killed: for each line of its input, it forks one that takes the newest checkpoint and saves on.

    python saving_loop.py FOLDER sound|breach

Prints the child's process id, then, when it is gone, "gone". With "breach", checkpoints are written in place.
"""

import os
import sys
from pathlib import Path

from samples import holds, of_step

from steepest.checkpoint import Checkpoints, disk


def train(folder):
    """Save one step after the other, from the newest on, until killed."""
    kept = Checkpoints(folder, run="a1")
    found = kept.newest(lambda sentence: None)
    step = 0
    if found is not None:
        step = found.step
        assert holds(found.read(), step)
    while True:
        step += 1
        kept.save(step, of_step(step), score=float(step % 7))


def in_place(folder, pieces, step, manifest):
    """The breach: what a plain `torch.save` to the final name does."""
    path = folder / disk.folder_name(step)
    path.mkdir()
    files = {piece.name: (piece.size, disk._write_file(path / piece.name, piece)) for piece in pieces}
    disk._write_file(path / "MANIFEST.json", disk.Piece("MANIFEST.json", [manifest(files).render()]))


if __name__ == "__main__":
    if sys.argv[2] == "breach":
        disk.write = in_place
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            train(Path(sys.argv[1]))
        print(child, flush=True)  # noqa: T201
        os.waitpid(child, 0)
        print("gone", flush=True)  # noqa: T201
