"""How much memory reading takes where the data is larger than it: the peak of a process of its own."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from reliability.table import Row, at_most

GROUPS, ROWS, COLUMNS = 64, 250_000, 32
"""Of the Parquet file: 64 groups of 64 MB, 4 GB in memory, and little on the disk."""
LIMIT = 300.0


def report(seconds: float) -> list[Row]:
    """Read each source for so long; return the rows of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make, open_it in (
            ("memory map of 20 GB", sparse, mapped),
            ("Parquet, groups of 64 MB, 4 GB", parquet, str),
            ("Parquet, one group of 2 GB", one_group, str),
        ):
            path = Path(folder) / name.replace(" ", "-").replace(",", "")
            path = make(path.with_suffix(".parquet"))
            growth, batches = in_process(open_it, path, seconds)
            rows.append(at_most(f"{name}: {batches:,} batches of 256 read", growth, LIMIT, " MB", 0))
            path.unlink()
    return rows


def in_process(open_it: Callable[[Path], Any], path: Path, seconds: float) -> tuple[float, int]:
    """Return by how many MB the peak of a new process grew in reading, and how many batches it read."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=read, args=(open_it, path, seconds, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError(f"the process that reads {path.name} died") from None
    finally:
        process.join()


def read(open_it: Callable[[Path], Any], path: Path, seconds: float, answer: Any) -> None:
    """Read shuffled batches for so long, and send what that took."""
    import pyarrow.parquet  # noqa: F401  so that its code counts as there before

    from steepest.data import open_source

    before, batches, began = peak(), 0, perf_counter()
    source = open_source(open_it(path), 256, 0)
    for batch in source.epoch(0):
        batches += 1
        del batch
        if perf_counter() - began > seconds:
            break
    source.close()
    answer.send((peak() - before, batches))


def peak() -> float:
    """Return the most memory that this process has had, in MB; pages of files that it maps count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def sparse(path: Path) -> Path:
    """Make a file of 20 GB that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(20 * 2**30)
    return path


def mapped(path: Path) -> np.ndarray:
    """Return it as rows of 4 KB."""
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, 1024)


def parquet(path: Path, groups: int = GROUPS, together: int = 1) -> Path:
    """Make a file with columns of few different numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.arange(ROWS, dtype=np.float64) % 7
    table = pa.table({f"c{place}": values for place in range(COLUMNS)})
    with pq.ParquetWriter(path, table.schema) as file:
        for _ in range(groups // together):
            file.write_table(pa.concat_tables([table] * together), row_group_size=ROWS * together)
    return path


def one_group(path: Path) -> Path:
    """Make a file with a single group of rows."""
    return parquet(path, groups=32, together=32)
