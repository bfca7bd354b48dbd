"""Every file of a checkpoint damaged in every way: the run goes on from the one before it, and says so."""

import hashlib
import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

import steepest as st
from reliability.table import Row, count
from reliability.trace import Trace, differences
from steepest.checkpoint.disk import folder_name
from steepest.checkpoint.manifest import MANIFEST, Manifest, read_manifest

HALF, STEPS, EVERY = 12, 20, 4
"""The run is left at step 12; checkpoints of steps 8 and 12 are there."""


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def train(out: Path, steps: int, seed: int = 0) -> str:
    """Train a small model, from what is there; return what was said."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 150), nn.Dropout(0.2), nn.Tanh(), nn.Linear(150, 150), nn.Linear(150, 1))
    optimizer = st.optim.AdamW(model.parameters(), lr=1e-3, ema=0.9)
    with redirect_stdout(io.StringIO()) as said:
        st.fit(
            model, lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
            (torch.randn(64, 8), torch.randn(64, 1)), steps=steps, optimizer=optimizer, batch_size=8, seed=seed,
            out=out, checkpoint_every=EVERY,
        )  # fmt: skip
    return said.getvalue()


def report() -> list[Row]:
    """Damage everything; return the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        kinds = {name: [place.survives(harm, file) for file in place.files()] for name, harm in HARMS.items()}
        kinds["the whole checkpoint is another run's"] = [place.survives(other_checkpoint, "")]
        rows = [count(f"{name}: set aside, told, one before used", sum(met), len(met)) for name, met in kinds.items()]
        ran = place.mark.exists()
        rows.append(Row("code that ran from a file", "some" if ran else "none", "none", not ran))
        return rows


class Place:
    """A run that was left half-way, one of another seed, and one that was never left."""

    def __init__(self, folder: Path) -> None:
        self.left, self.other, self.mark = folder / "left", folder / "other", folder / "it-ran"
        self._now, self._whole = folder / "now", folder / "whole"
        train(self._whole, STEPS)
        train(self.left, HALF)
        train(self.other, HALF, seed=1)
        self._outcome = Trace(self._whole).outcome()

    def files(self) -> list[str]:
        """Return the names of the files of a checkpoint."""
        return sorted(path.name for path in (self.left / "checkpoints" / folder_name(HALF)).iterdir())

    def survives(self, harm: Callable[["Place", Path], None], file: str) -> bool:
        """Whether a run whose newest checkpoint is harmed goes on from the one before, says so, and ends as ever."""
        shutil.rmtree(self._now, ignore_errors=True)
        shutil.copytree(self.left, self._now)
        harm(self, self._now / "checkpoints" / folder_name(HALF) / file)
        said = train(self._now, STEPS)
        told = f"The checkpoint of step {HALF} is damaged" in said and f"going on from step {HALF - EVERY}" in said
        aside = (self._now / "checkpoints" / f"{folder_name(HALF)}.damaged").is_dir()
        return told and aside and not differences(self._outcome, Trace(self._now).outcome())


def flip(place: Place, path: Path) -> None:
    """Turn one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(place: Place, path: Path) -> None:
    """Leave the first half."""
    os.truncate(path, path.stat().st_size // 2)


def delete(place: Place, path: Path) -> None:
    """Remove the file."""
    path.unlink()


def swap(place: Place, path: Path) -> None:
    """Put the file of another run in its place."""
    shutil.copy(place.other / "checkpoints" / path.parent.name / path.name, path)


def other_checkpoint(place: Place, path: Path) -> None:
    """Put all files of another run in its place."""
    shutil.rmtree(path)
    shutil.copytree(place.other / "checkpoints" / path.name, path)


def bomb(place: Place, path: Path) -> None:
    """Write what runs a command when it is unpickled, and the digests of it as one can who knows the format."""
    content = pickle.dumps(Bomb(place.mark))
    old = read_manifest(path.parent)
    path.write_bytes(content)
    if path.name != MANIFEST:
        files = old.files | {path.name: (len(content), hashlib.sha256(content).hexdigest())}
        (path.parent / MANIFEST).write_bytes(Manifest(old.run, old.step, old.score, old.facts, files).render())


HARMS = {"one bit": flip, "cut in half": cut, "deleted": delete, "another run's": swap, "pickle bomb": bomb}
