"""Rows of Parquet files: every one once in an epoch, in an order of its own; what becomes no tensor is refused."""

import importlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from steepest.data import files, open_source

parquet = importlib.import_module("steepest.data.parquet")
row_groups = importlib.import_module("steepest.data.row_groups")

KINDS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


def numbered(first, rows):
    """Rows that say which they are, in every form that a column may have."""
    number = np.arange(first, first + rows)
    words = [f"row {each}" for each in number]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(number, 3).astype(np.float32)), 3)
    return pa.table({
        "number": number, "even": number % 2 == 0, "list": lists, "word": words,
        "large": pa.array(words, pa.large_string()), "category": pa.array(words).dictionary_encode(),
    })  # fmt: skip


def write(path, table=None, rows=100, group=10):
    pq.write_table(numbered(0, rows) if table is None else table, path, row_group_size=group)
    return path


def numbers(batches):
    return [batch["number"].tolist() for batch in batches]


def every_row_once(batches, rows):
    """Law: an epoch has every row once, and all columns of a row stay together."""
    seen = []
    for batch in batches:
        number = batch["number"]
        words = [f"row {each}" for each in number.tolist()]
        together = (
            batch["even"].tolist() == (number % 2 == 0).tolist()
            and torch.equal(batch["list"], number.float()[:, None].expand(-1, 3))
            and batch["word"] == batch["large"] == batch["category"] == words
        )
        seen += number.tolist() if together else []
    return sorted(seen) == list(range(rows))


def test_every_row_comes_once_and_whole(tmp_path):
    source = open_source(write(tmp_path / "a.parquet"), 7, 3)
    batches = list(source.epoch(0))
    assert every_row_once(batches, 100)
    assert [len(batch["word"]) for batch in batches] == [7] * 14 + [2]
    assert (source.batches, source.samples) == (15, 100)
    assert numbers(source.epoch(0)) == numbers(batches) != numbers(source.epoch(1))
    batches[0]["list"].zero_()  # a batch may be written to, and is its own
    assert every_row_once(source.epoch(0), 100)


def test_the_law_sees_a_lost_row_a_repeated_one_and_a_torn_one(tmp_path):
    batches = list(open_source(write(tmp_path / "a.parquet"), 10, 3).epoch(0))
    assert not every_row_once(batches[1:], 100)
    assert not every_row_once([*batches, batches[0]], 100)
    batches[0]["word"].reverse()
    assert not every_row_once(batches, 100)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=3), st.integers(1, 25), st.integers(1, 40), st.integers(50, 5000),
    st.sampled_from([None, 0, 5]), st.data(),
)  # fmt: skip
def test_files_groups_windows_and_batches_of_any_size_and_a_resume_anywhere(
    tmp_path, sizes, group, batch_size, window, seed, data
):
    paths, rows = [], 0
    for place, size in enumerate(sizes):
        paths.append(write(tmp_path / f"{place}.parquet", numbered(rows, size), group=group))
        rows += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "WINDOW", window)
        source = open_source(paths, batch_size, seed)
        whole = list(source.epoch(1))
        assert every_row_once(whole, rows)
        assert len(whole) == source.batches
        if seed is None:
            assert sum(numbers(whole), []) == list(range(rows))  # noqa: RUF017
        start = data.draw(st.integers(0, len(whole)))
        assert numbers(source.epoch(1, start)) == numbers(whole)[start:]


def test_a_resume_reads_no_window_but_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "WINDOW", 1200)
    source = open_source(write(tmp_path / "a.parquet", rows=1000), 10, 3)
    whole, read = numbers(source.epoch(0)), []
    original = row_groups.RowGroups.read

    def counted(self, groups, limit):
        read.append(groups)
        return original(self, groups, limit)

    monkeypatch.setattr(row_groups.RowGroups, "read", counted)
    epoch = source.epoch(0, 90)
    assert next(epoch)["number"].tolist() == whole[90]
    assert len(read) == 1


def test_rows_are_shuffled_within_windows_and_groups_among_them(tmp_path):
    path = write(tmp_path / "a.parquet", pa.table({"number": np.arange(1000)}), group=10)
    together = numbers(open_source(path, 1000, 3).epoch(0))[0]
    assert abs(np.corrcoef(together[:-1], together[1:])[0, 1]) < 0.12
    assert len(set(together[:100])) > 90
    assert len({number // 10 for number in together[:100]}) > 50


def test_a_group_larger_than_a_window_is_read_in_parts(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", rows=5000, group=5000)
    monkeypatch.setattr(parquet, "WINDOW", 100_000)
    source = open_source(path, 64, 3)
    whole = list(source.epoch(0))
    assert every_row_once(whole, 5000)
    assert max(numbers(whole)[0]) < 2000
    assert numbers(source.epoch(0, 60)) == numbers(whole)[60:]


def test_numbers_keep_their_type(tmp_path):
    table = pa.table({kind: np.arange(4).astype(kind) for kind in KINDS} | {"bool": np.array([True, False] * 2)})
    batch = next(open_source(write(tmp_path / "a.parquet", table), 4, None).epoch(0))
    assert {name: str(tensor.dtype) for name, tensor in batch.items()} == {
        name: f"torch.{name}" for name in (*KINDS, "bool")
    }
    assert all(tensor.tolist() == [0, 1, 2, 3] for name, tensor in batch.items() if name != "bool")


def test_a_folder_a_list_and_text_are_paths_too(tmp_path):
    paths = [write(tmp_path / f"{name}.parquet", numbered(first, 50)) for name, first in (("a", 0), ("b", 50))]
    (tmp_path / "notes.md").write_text("not read")
    whole = numbers(open_source(tmp_path, 8, 3).epoch(0))
    assert numbers(open_source(paths, 8, 3).epoch(0)) == whole
    assert numbers(open_source(str(tmp_path), 8, 3).epoch(0)) == whole
    assert numbers(open_source([str(path) for path in paths], 8, 3).epoch(0)) == whole


def test_a_signature_says_what_the_columns_are(tmp_path):
    path = write(tmp_path / "a.parquet", pa.table({"x": np.ones(30, np.float32), "y": ["a"] * 30}))
    assert open_source(path, 8, 0).signature() == {
        "kind": "parquet", "samples": 30, "groups": 3, "columns": {"x": "float", "y": "string"},
    }  # fmt: skip


BAD = {
    "null": (
        pa.table({"x": [1, None]}),
        ValueError,
        r"Column 'x' of .*a\.parquet has missing values \(null\), 1 of them",
    ),
    "null word": (pa.table({"x": ["a", None]}), ValueError, "Column 'x' of .* has missing values"),
    "date": (pa.table({"x": np.array(["2026-01-01"], "M8[us]")}), TypeError, r"Column 'x' of .* holds timestamp\[us\]"),
    "lists": (
        pa.table({"x": [[1], [1, 2]]}),
        TypeError,
        r"Column 'x' of .* holds list<element: int64> values; a batch",
    ),
    "empty": (pa.table({"x": pa.array([], pa.int64())}), ValueError, r"The file .*a\.parquet holds no rows"),
}


@pytest.mark.parametrize(("table", "kind", "message"), BAD.values(), ids=BAD)
def test_what_becomes_no_batch_is_refused_when_it_is_opened(tmp_path, table, kind, message):
    with pytest.raises(kind, match=message):
        open_source(write(tmp_path / "a.parquet", table), 8, 0)


def test_missing_values_that_no_statistics_tell_of_are_seen_when_they_are_read(tmp_path):
    inner = pa.array([1.0, None, 2.0, 3.0])
    for column in (pa.array([1, None]), pa.FixedSizeListArray.from_arrays(inner, 2)):
        pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet", write_statistics=False)
        source = open_source(tmp_path / "a.parquet", 2, 0)
        with pytest.raises(ValueError, match=r"Column 'x' of .*a\.parquet has missing values \(null\), 1 of them"):
            next(source.epoch(0))


def test_files_that_differ_are_refused(tmp_path):
    first = write(tmp_path / "a.parquet", pa.table({"x": [1], "y": [2]}))
    second = tmp_path / "b.parquet"
    for table, difference in (
        (pa.table({"x": [1], "y": [2.5]}), "column 'y' is int64 in the first, double in the other"),
        (pa.table({"x": [1]}), "column 'y' is int64 in the first, absent in the other"),
        (pa.table({"y": [1], "x": [2]}), r"their columns are \['x', 'y'\] and \['y', 'x'\]"),
    ):
        with pytest.raises(ValueError, match=rf"a\.parquet and .*b\.parquet differ: {difference}"):
            open_source([first, write(second, table)], 8, 0)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"The folder .* holds no \.parquet file"):
        open_source(tmp_path, 8, 0)
    for content in (b"", b"no parquet at all, but long enough"):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"The file .*a\.parquet is no Parquet file, or is damaged"):
            open_source(tmp_path / "a.parquet", 8, 0)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs pyarrow, which is not installed: pip install 'steepest"):
        open_source(write(tmp_path / "a.parquet"), 8, 0)
