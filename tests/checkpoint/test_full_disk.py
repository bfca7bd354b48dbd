"""A disk that is full or read-only: training goes on, the last good checkpoint stays, and the next save works."""

import os
import re
import shutil
import subprocess

import pytest
import torch
from samples import same

from steepest.checkpoint import Checkpoints, disk, verify

SIZE = 2_000_000


def tree(step):
    return {"model": {"w": torch.full((SIZE // 8,), float(step))}, "optimizer": {"m": torch.full((SIZE // 8,), step)}}


@pytest.fixture
def small(tmp_path):
    """A disk of its own with room for two and a half checkpoints."""
    path = tmp_path / "disk"
    path.mkdir()
    mount("-t", "tmpfs", "-o", f"size={8 * SIZE}", "none", str(path))
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def mount(*arguments):
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount a disk: {done.stderr.strip()}")


@pytest.fixture
def kept(small):
    made = Checkpoints(small / "checkpoints", run="a1")
    for step in (1, 2):
        made.save(step, tree(step), wait=True)
    assert made.problems() == []
    yield made
    made.close()


def fill(small, leave):
    """Leave so many bytes of the disk free."""
    free = shutil.disk_usage(small).free
    (small / "filler").write_bytes(bytes(max(free - leave, 0)))


def assert_survived(kept, small, said):
    """The law: a sentence, nothing half-written, the last good one as it was; with room again, the next is saved."""
    (problem,) = kept.problems()
    assert re.fullmatch(said, problem)
    assert sorted(path.name for path in (small / "checkpoints").glob("*step*")) == ["step-000000001", "step-000000002"]
    assert not list((small / "checkpoints").glob(".tmp-*"))
    assert [each.fault for each in verify(small)] == [None, None]
    assert same(kept.newest(pytest.fail).read(), tree(2))
    (small / "filler").unlink(missing_ok=True)
    kept.save(4, tree(4), wait=True)
    assert kept.problems() == []
    assert same(kept.newest(pytest.fail).read(), tree(4))


FULL = r"no space: [\d,]+ bytes are missing for step 3 in .*; training goes on, the last good checkpoint is step 2"


@pytest.mark.parametrize("leave", [0, 5000, SIZE, 3 * SIZE // 2 + 10_000])
def test_a_full_disk_is_seen_beforehand(kept, small, leave):
    fill(small, leave)
    kept.save(3, tree(3), wait=True)
    assert_survived(kept, small, FULL)


def test_the_missing_bytes_are_right(kept, small):
    """With so many bytes more, the save succeeds."""
    fill(small, SIZE)
    kept.save(3, tree(3), wait=True)
    missing = int(re.search(r"([\d,]+) bytes", kept.problems()[0])[1].replace(",", ""))
    size = (small / "filler").stat().st_size
    os.truncate(small / "filler", size - missing)
    kept.save(3, tree(3), wait=True)
    assert kept.problems() == []


@pytest.mark.parametrize("leave", [0, 5000, SIZE, 3 * SIZE // 2 + 10_000])
def test_a_disk_that_fills_in_the_middle_of_a_write(kept, small, leave, monkeypatch):
    """Another program takes the room after it was looked at."""
    monkeypatch.setattr(disk, "check_space", lambda folder, pieces: fill(small, leave))
    kept.save(3, tree(3), wait=True)
    monkeypatch.undo()
    assert_survived(kept, small, FULL)


READ_ONLY = r"step 3 could not be written to .*: Read-only file system; training goes on, the last .* is step 2"


def test_a_disk_that_becomes_read_only(kept, small):
    kept._lock.release()  # with a file open for writing, no disk becomes read-only
    mount("-o", "remount,ro", str(small))
    kept.save(3, tree(3), wait=True)
    assert same(kept.newest(pytest.fail).read(), tree(2))
    mount("-o", "remount,rw", str(small))
    assert_survived(kept, small, READ_ONLY)


def test_a_read_only_folder_can_be_read(small, kept):
    kept.close()
    (small / "checkpoints" / "step-000000002" / "state.json").unlink()
    mount("-o", "remount,ro", str(small))
    other, said = Checkpoints(small / "checkpoints", run="a1"), []
    assert same(other.newest(said.append).read(), tree(1))
    assert "state.json is missing; it was left where it is" in said[0]
    other.close()
    mount("-o", "remount,rw", str(small))


def test_a_disk_with_room_is_no_problem(kept, small):
    """Beside the breaches: the same save without a filler."""
    kept.save(3, tree(3), wait=True)
    assert kept.problems() == []
