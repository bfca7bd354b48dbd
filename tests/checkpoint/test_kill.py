"""A process killed at any moment leaves sound checkpoints only; what else it leaves is gone after the next start."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import holds, of_step

from steepest.checkpoint import Checkpoints, disk

PROGRAM = Path(__file__).with_name("saving_loop.py")


def killed(folder, times, kind="sound"):
    """Kill a process that saves, so many times; returns how many died inside a write, and how many left damage."""
    inside, damage, last = 0, 0, 0
    command = [sys.executable, PROGRAM, folder, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        for _ in range(times):
            server.stdin.write("go\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            time.sleep(random.uniform(0, 0.15))
            os.kill(child, signal.SIGKILL)
            assert server.stdout.readline() == "gone\n"
            if not folder.exists():
                continue
            inside += any(folder.glob(".tmp-*"))
            last, said = started(folder, last)
            damage += bool(said)
        server.stdin.close()
    return inside, damage


def started(folder, last):
    """The law: the next start finds a sound checkpoint, of no lower step, with the content of its step, and tidies."""
    said = []
    kept = Checkpoints(folder, run="a1")
    found = kept.newest(said.append)
    kept.close()
    assert not list(folder.glob(".tmp-*"))
    if found is None:
        assert last == 0
        return 0, said
    assert found.step >= last or said
    assert holds(found.read(), found.step)
    assert len(disk.complete(folder)) >= min(2, found.step)
    return found.step, said


def test_killed_twenty_times(tmp_path):
    inside, damage = killed(tmp_path / "checkpoints", 20)
    assert inside >= 1
    assert damage == 0


@pytest.mark.slow
def test_killed_four_hundred_times(tmp_path):
    random.seed()
    inside, damage = killed(tmp_path / "checkpoints", 400)
    assert inside >= 50
    assert damage == 0


def test_writing_in_place_is_caught(tmp_path):
    """The planted breach: a writer without temporary folder leaves half a checkpoint behind."""
    for _ in range(10):
        _, damage = killed(tmp_path / "checkpoints", 10, "breach")
        if damage:
            return
        shutil.rmtree(tmp_path / "checkpoints")
    pytest.fail("a writer in place left no damage")


class Recorded:
    """The calls of the operating system that a save makes, in their order."""

    def __init__(self, monkeypatch):
        self.calls = []
        for name in ("fsync", "rename"):
            monkeypatch.setattr(os, name, self.watch(name, getattr(os, name)))

    def watch(self, name, function):
        def called(*args, **options):
            if name == "fsync":
                self.calls.append(("fsync", os.readlink(f"/proc/self/fd/{args[0]}")))
            else:
                self.calls.append(("rename", str(args[0]), str(args[1])))
            return function(*args, **options)

        return called


def breaches(calls, folder, step):
    """What is wrong with the order of calls: everything to the disk before the rename, the rename before a removal."""
    final = str(folder / disk.folder_name(step))
    found = []
    ((at, temporary),) = [(n, c[1]) for n, c in enumerate(calls) if c[0] == "rename" and c[2] == final]
    before = [c[1] for c in calls[:at] if c[0] == "fsync"]
    names = [*sorted(path.name for path in Path(final).iterdir() if path.name != "MANIFEST.json"), "MANIFEST.json"]
    found += [f"{name} is not on the disk" for name in names if f"{temporary}/{name}" not in before]
    if before[-2:] != [f"{temporary}/MANIFEST.json", temporary]:
        found.append("the manifest is not the last file, or the folder is not on the disk")
    if calls[at + 1 : at + 2] != [("fsync", str(folder))]:
        found.append("the new name is not on the disk")
    if any(c[0] == "rename" for c in calls[:at]):
        found.append("something was removed before")
    return found


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    kept = Checkpoints(folder, run="a1")
    for step in (1, 2):
        kept.save(step, of_step(step), wait=True)
    recorded = Recorded(monkeypatch)
    kept.save(3, of_step(3), wait=True)
    calls = recorded.calls
    assert breaches(calls, folder, 3) == []
    assert [c[1] for c in calls if c[0] == "rename"][1:] == [str(folder / "step-000000001")]
    at = next(n for n, c in enumerate(calls) if c[0] == "rename")
    for place in range(at):  # planted breaches: each call before the rename left out, and the removal made first
        assert breaches(calls[:place] + calls[place + 1 :], folder, 3)
    assert breaches(calls[: at + 1] + calls[at + 2 :], folder, 3)
    assert breaches([calls[-1], *calls[:-1]], folder, 3)
    kept.close()
