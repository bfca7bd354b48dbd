"""A disk that is full or may not be written, a clock that jumps: the run lives to its end and says what is missing."""

import errno
import io
import itertools
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from time import perf_counter
from unittest import mock

import torch
from torch import nn

import steepest as st
from reliability.table import Row, count
from reliability.trace import Trace, differences
from steepest.checkpoint import disk, verify
from steepest.fit import Result

STEPS, EVERY, TROUBLE = 20, 4, 11
"""Trouble comes in step 11: the last good checkpoint is of step 8, or of 4 where 8 was still to be written."""
SIZE = 8 * 2**20
"""Of the small disk; a checkpoint has 0.4 MB."""
NOBODY = 65534


def train(out: Path, trouble: Callable[[], None] = lambda: None, **budget: str) -> tuple[Result, str]:
    """Train a small model, with trouble in the middle; return the result and what was said."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 150), nn.Dropout(0.2), nn.Tanh(), nn.Linear(150, 150), nn.Linear(150, 1))
    optimizer = st.optim.AdamW(model.parameters(), lr=1e-3, ema=0.9)
    calls = itertools.count()

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        if next(calls) == TROUBLE:
            trouble()
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    with redirect_stdout(io.StringIO()) as said:
        result = st.fit(
            model, loss, (torch.randn(64, 8), torch.randn(64, 1)), optimizer=optimizer, batch_size=8, out=out,
            checkpoint_every=EVERY, **(budget or {"steps": STEPS}),
        )  # fmt: skip
    return result, said.getvalue()


def report() -> list[Row]:
    """Make every trouble; return the rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder / "whole")
        whole = Trace(folder / "whole").outcome()
        rows = [full_disk(folder, whole), unwritable(folder, whole), quota(folder, whole)]
        return [*rows, clock(folder, whole), clock_and_time(folder)]


def full_disk(folder: Path, whole: dict) -> Row:
    """Fill a small disk of its own in the middle of a run."""
    name, place = "full disk: lives, keeps the last good one, says the bytes", folder / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", place], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return Row(name, f"not measured, for want of the right to mount: {made.stderr.strip()}")
    try:
        return count(
            name, survives(place, lambda: fill(place), place / "filler", whole, r"[\d,]+ bytes are missing"), 1
        )
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> None:
    """Leave the small disk without a byte."""
    try:
        with (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def unwritable(folder: Path, whole: dict) -> Row:
    """Take away the right to write to the folder of checkpoints, and root's right to do so anyway."""
    with tempfile.TemporaryDirectory() as name, as_nobody(Path(name)):  # of its own: all may look into it
        kept = Path(name) / "run" / "checkpoints"
        said = "could not be written to .*: Permission denied"
        met = survives(Path(name), lambda: kept.chmod(0o555), None, whole, said, lambda: kept.chmod(0o755))
    return count("folder that may not be written: the same", met, 1)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Be a user without rights for a while, who owns this folder, if this process is root."""
    if os.geteuid():
        yield
        return
    os.chown(folder, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def quota(folder: Path, whole: dict) -> Row:
    """Have the system say, in place of a write, that the quota is used up."""
    place, refusal = folder / "quota", mock.Mock(side_effect=OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))
    patch = mock.patch.object(disk, "check_space", refusal)
    met = survives(place, patch.start, None, whole, r"the quota does not allow the [\d,]+ bytes", patch.stop)
    return count("quota: the same", met, 1)


def survives(
    place: Path,
    trouble: Callable[[], object],
    filler: Path | None,
    whole: dict,
    message: str,
    relief: Callable[[], object] = lambda: None,
) -> bool:
    """Whether a run with this trouble ends well, says so, keeps the last good one, and is saved once there is room."""
    out = place / "run"
    result, said = train(out, trouble)
    lived = result.status == "finished" and result.steps == STEPS and bool(re.search(message, said))
    last = re.search(r"training goes on, the last good checkpoint is step (\d+)$", said, re.MULTILINE)
    told = last is not None and int(last[1]) == Trace(out).newest() > 0
    kept = all(each.fault is None for each in verify(out))
    relief()
    if filler is not None:
        filler.unlink()
    train(out)
    return lived and told and kept and not differences(whole, Trace(out).outcome())


def clock(folder: Path, whole: dict) -> Row:
    """Let the clock jump by years, forwards and back, at every look at it."""
    with jumping():
        result, said = train(folder / "clock")
    kept = result.status == "finished" and not differences(whole, Trace(folder / "clock").outcome())
    return count("clock that jumps by years: the run is the same to the bit", kept and "not saved" not in said, 1)


def clock_and_time(folder: Path) -> Row:
    """The same for a run whose budget is a time."""
    began = perf_counter()
    with jumping():
        result, _ = train(folder / "time", time="2s")
    seconds = perf_counter() - began
    met = result.status == "finished" and 1.5 < seconds < 3.5  # reading and the last save come on top
    return Row('  and one of time="2s" ends on time', f"{seconds:.2f} s", "2 s", met)


@contextmanager
def jumping() -> Iterator[None]:
    """Let `time.time` go forwards or back by ten years each time it is asked."""
    now, jumps = time.time, itertools.cycle([3.15e8, -3.15e8, 0.0])
    with mock.patch.object(time, "time", side_effect=lambda: now() + next(jumps)):
        yield
