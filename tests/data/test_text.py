"""Lines of a file come as they stand in it, whichever are asked for."""

import importlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, strategies as st

from steepest.data import open_source

text = importlib.import_module("steepest.data.text")

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20)


def write(folder, content, name="data.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(path, batch_size=7, seed=None, workers=0, epoch=0, start=0):
    source = open_source(path, batch_size, seed, workers)
    found = list(source.epoch(epoch, start))
    source.close()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


@given(st.lists(LINE, min_size=1), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_every_line_comes_as_it_is(folder, written, ended, newline):
    content = newline.join(written) + newline * (ended or not written[-1])
    assert [line for batch in lines(write(folder, content)) for line in batch] == written


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(1, 9), st.integers(1, 60), st.integers(5, 70)
)
def test_the_index_finds_every_line_wherever_chunks_and_blocks_end(folder, sizes, every, block, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "LINES", every)
        patch.setattr(text, "BYTES", block)
        patch.setattr(text, "CHUNK", chunk)
        written = [f"{number}:" + "x" * size for number, size in enumerate(sizes)]
        found = text.Lines(write(folder, "\n".join(written)))
        asked = np.random.permutation(len(written))
        assert found.samples == len(written)
        assert found.read(0, asked) == [written[number] for number in asked]


def test_the_law_sees_an_index_that_is_off_by_one(folder):
    found = text.Lines(write(folder, "".join(f"{number}\n" for number in range(1000))))
    found._numbers[1:] += 1
    assert found.read(0, np.array([700])) != ["700"]


@pytest.mark.parametrize("workers", [0, 2])
def test_lines_are_shuffled_each_once_with_any_number_of_workers(folder, workers):
    path = write(folder, "".join(f'{{"number": {number}}}\n' for number in range(700)), "data.jsonl")
    whole = lines(path, 32, 5, epoch=2)
    assert sorted(line for batch in whole for line in batch) == sorted(path.read_text().splitlines())
    assert whole[0] != path.read_text().splitlines()[:32]
    assert lines(path, 32, 5, workers, 2) == whole
    assert lines(path, 32, 5, workers, 2, start=9) == whole[9:]
    assert lines(str(path), 32, 5, workers, 3) != whole


def test_the_index_of_a_long_file_is_small(tmp_path):
    path = write(tmp_path, b"some words on a line\n" * 1_000_000)
    tracemalloc.start()
    source = open_source(path, 32, 1)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.samples == 1_000_000
    assert held < 200_000
    assert peak < 40 * 2**20
    assert next(source.epoch(0)) == ["some words on a line"] * 32


def test_long_lines_do_not_make_their_neighbours_slow(tmp_path):
    found = text.Lines(write(tmp_path, b"".join(b"%d" % (number % 10) * 100_000 + b"\n" for number in range(60))))
    assert len(found._offsets) > 50
    assert [line[:2] for line in found.read(0, np.array([57, 3]))] == ["77", "33"]


def test_bytes_that_are_no_text_are_named_by_file_and_line(tmp_path):
    path = write(tmp_path, b"good\n\nb\xffd\nlast")
    with pytest.raises(ValueError, match=r"Line 3 of .*data\.txt is not UTF-8: invalid start byte at byte 1 of it"):
        lines(path)
    with pytest.raises(ValueError, match=r"Line 3 of .*data\.txt is not UTF-8"):
        lines(path, seed=1, workers=1)


def test_a_file_that_gives_no_lines_or_changes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"The file .*empty\.txt is empty"):
        open_source(write(tmp_path, b"", "empty.txt"), 8, 0)
    path = write(tmp_path, "one\ntwo\n")
    source = open_source(path, 1, None)
    path.write_text("other\n")
    with pytest.raises(RuntimeError, match=r"The file .*data\.txt was changed while it was read"):
        next(source.epoch(0))


def test_paths_that_nothing_reads_are_refused(tmp_path):
    for suffix in ("csv", "gz"):
        path = write(tmp_path, "a", f"data.{suffix}")
        with pytest.raises(ValueError, match=rf"The data is the path .*{suffix}\. Paths are read when they end in"):
            open_source(path, 8, 0)
    with pytest.raises(ValueError, match=r"a list of paths holds \.parquet files only"):
        open_source([write(tmp_path, "a")], 8, 0)
    with pytest.raises(FileNotFoundError, match=r"There is no .*nowhere\.txt"):
        open_source(tmp_path / "nowhere.txt", 8, 0)


def test_a_signature_says_which_text_it_is(tmp_path):
    assert open_source(write(tmp_path, "a\nb"), 8, 0).signature() == {"kind": "text", "samples": 2, "bytes": 3}
