"""Data larger than memory is read in little of it: the peak of the process, as the kernel counts it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

BEFORE = """
import mmap, sys
import numpy as np
from steepest.data import mapped, open_source

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))

path = sys.argv[1]
"""

MAPPED = """
{breach}
file = np.memmap(path, np.float32, "{mode}", shape=(5 * 2**20, 1024))
source = open_source(file, 64, {seed})
before = peak()
for number, batch in enumerate(source.epoch(0)):
    if number == {batches}:
        break
print(peak() - before)
"""

TABLE = """
import pyarrow as pa, pyarrow.parquet as pq
list(open_source({small!r}, 256, 0).epoch(0))
source = open_source(path, 256, {seed})
before, rows = peak(), 0
for batch in source.epoch(0):
    rows += len(batch["x"])
assert rows == source.samples
print(peak() - before)
"""


def growth(code, path):
    """The growth of the process's peak memory in MiB, as the code prints it."""
    done = subprocess.run([sys.executable, "-c", BEFORE + code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A file of 20 GiB that takes no room on the disk."""
    path = tmp_path_factory.mktemp("memory") / "sparse"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)
    yield path
    path.unlink()


@pytest.mark.parametrize(("seed", "batches"), [(1, 8000), (None, 8000)], ids=["shuffled", "stored"])
@pytest.mark.slow
def test_a_memory_map_larger_than_memory_stays_small(sparse, seed, batches):
    assert growth(MAPPED.format(breach="", mode="r", seed=seed, batches=batches), sparse) < 300


@pytest.mark.slow
def test_the_law_sees_pages_that_are_kept(sparse):
    kept = MAPPED.format(breach="mapped.LIMIT = 2**60", mode="r", seed=1, batches=3000)
    assert growth(kept, sparse) > 300


def test_a_private_map_keeps_what_was_written_to_it(tmp_path):
    code = """
np.zeros(2**25, np.float32).tofile(path)
file = np.memmap(path, np.float32, "c").reshape(-1, 2**13)
file[7] = 3
batches = [batch.max().item() for batch in open_source(file, 4, 1).epoch(0)] + [file[7].min()]
print(int(sum(batches)))
"""
    assert growth(code, tmp_path / "private") == 6


def test_a_shared_map_keeps_what_was_written_to_it(tmp_path):
    code = """
file = np.memmap(path, np.float32, "w+", shape=(2**12, 2**13))
file[7] = 3
batches = [batch.max().item() for batch in open_source(file, 4, 1).epoch(0)] + [file[7].min()]
print(int(sum(batches)))
"""
    assert growth(code, tmp_path / "shared") == 6


def table_writer(rows, groups, columns):
    return f"""
import pyarrow as pa, pyarrow.parquet as pq
draws = np.random.default_rng(0)
names = ["x", *(f"c{{number}}" for number in range({columns} - 1))]
schema = pa.schema([*((name, pa.float32()) for name in names), ("w", pa.string())])
with pq.ParquetWriter(path, schema, compression="none") as writer:
    for _ in range({groups}):
        columns = [pa.array(draws.random({rows}, np.float32)) for _ in range({columns})]
        words = pa.array(["some words that repeat", "others"] * ({rows} // 2))
        writer.write_table(pa.table([*columns, words], schema=schema), row_group_size={rows})
print(0)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file that is read first, so that what pyarrow takes to begin is not counted."""
    path = tmp_path_factory.mktemp("memory") / "small.parquet"
    growth(table_writer(100, 2, 2), path)
    return str(path)


@pytest.mark.parametrize(
    ("rows", "groups", "columns"),
    [(100_000, 80, 80), (1_000_000, 16, 40)],
    ids=["many small groups", "groups larger than a window"],
)
@pytest.mark.slow
def test_a_parquet_file_larger_than_memory_stays_small(tmp_path, small, rows, groups, columns):
    path = tmp_path / "large.parquet"
    growth(table_writer(rows, groups, columns), path)
    assert path.stat().st_size > 2.5 * 10**9
    assert growth(TABLE.format(small=small, seed=1), path) < 300
    path.unlink()
