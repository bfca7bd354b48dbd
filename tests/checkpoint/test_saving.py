"""What stays on the disk after each save, what is said when one fails, and when the folder is someone else's."""

import errno
import fcntl
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from samples import holds, of_step, same

from steepest.checkpoint import Checkpoints, checkpoints, disk, verify
from steepest.checkpoint.stage import Stage


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.fixture
def kept(folder):
    made = Checkpoints(folder, run="a1")
    yield made
    made.close()


def save(kept, *steps, **options):
    for step in steps:
        kept.save(step, of_step(step), wait=True, **options)


def here(folder):
    """The names in a folder but that of the lock; of checkpoints, only the step."""
    return sorted(re.sub("^step-0{,8}", "", path.name) for path in folder.iterdir() if path.name != ".lock")


def test_nothing_is_made_before_the_first_save(kept, folder):
    assert kept.newest(pytest.fail) is None
    assert kept.best() is None
    kept.close()
    assert not folder.parent.exists()


def test_the_last_ones_are_kept(kept, folder):
    save(kept, 1, 2, 3, 10, 1000)
    assert here(folder) == ["10", "1000"]
    assert kept.newest(pytest.fail).step == 1000


def test_the_best_one_is_kept_besides(kept, folder):
    for step, score in enumerate([5.0, 3.0, float("nan"), 3.0, 4.0, None, -float("inf"), float("inf"), 1.0, 0.0]):
        save(kept, step, score=score)
        expected = 0 if step == 0 else 1 if step < 6 else 6
        assert kept.best().step == expected
        assert holds(kept.best().read(), expected)
        assert set(here(folder)) == {str(each) for each in {expected, step, step - 1} if each >= 0}


def test_not_a_number_is_never_best(kept):
    save(kept, 1, score=float("nan"))
    assert kept.best() is None


def test_more_are_kept_on_demand(folder):
    kept = Checkpoints(folder, run="a1", keep=4)
    save(kept, *range(7))
    assert here(folder) == ["3", "4", "5", "6"]
    kept.close()


def test_a_step_before_the_newest_is_written_and_stays(kept, folder):
    save(kept, 10, 20, 5)
    assert here(folder) == ["10", "20", "5"]


def test_checkpoints_of_another_run_and_other_files_are_never_removed(kept, folder):
    other = Checkpoints(folder, run="b2")
    save(other, 1, 2)
    other.close()
    (folder / "notes").mkdir()
    (folder / "step-000000003.damaged").mkdir()
    (folder / "step-9").mkdir()
    save(kept, 4, 5, 6, 7)
    assert here(folder) == ["1", "2", "3.damaged", "6", "7", "9", "notes"]


def test_a_sound_checkpoint_is_rewritten_only_for_another_content(kept, folder):
    save(kept, 1)
    before = [(path, path.stat()) for path in sorted((folder / "step-000000001").iterdir())]
    save(kept, 1)
    assert kept.problems() == []
    assert [(path, path.stat()) for path in sorted((folder / "step-000000001").iterdir())] == before
    kept.save(1, of_step(2), score=0.5, wait=True)
    assert kept.problems() == []
    assert holds(kept.newest(pytest.fail).read(), 2)
    assert kept.best().step == 1
    assert here(folder) == ["1"]


def test_a_failed_rewriting_leaves_the_old_one(kept, folder, monkeypatch):
    save(kept, 1)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "_write_file", full)
    kept.save(1, of_step(2), wait=True)
    assert "no space" in kept.problems()[0]
    assert holds(kept.newest(pytest.fail).read(), 1)


def test_a_damaged_one_in_the_way_is_set_aside(kept, folder):
    save(kept, 1)
    (folder / "step-000000001" / "state.json").unlink()
    save(kept, 1)
    (problem,) = kept.problems()
    assert "state.json is missing; it is now step-000000001.damaged" in problem
    assert holds(kept.newest(pytest.fail).read(), 1)


def test_facts_are_read_without_tensors(kept, folder):
    facts = {"lr": 0.1, "betas": (0.9, 0.99), "loss": float("nan"), "config": {"steps": 10, "names": ["a"]}}
    expected = {**facts, "config": {"steps": 10, "names": ["a"]}}
    kept.save(1, of_step(1), facts=facts)
    facts["config"]["names"].append("later")
    found = kept.newest(pytest.fail)
    assert same(found.facts, expected)


def test_what_is_saved_is_what_was_there(kept):
    """After `save` returns, training goes on, and what is written stays as it was."""
    tree = {"model": {"w": torch.zeros(1_000_000)}, "optimizer": {"m": [torch.zeros(9)]}, "small": torch.zeros(3)}
    for step in range(5):
        tree["model"]["w"].fill_(step)
        tree["optimizer"]["m"][0].fill_(step)
        tree["small"].fill_(step)
        kept.save(step, tree)
        tree["model"]["w"].fill_(-1)
        tree["optimizer"]["m"].append(torch.ones(1))
        tree["small"].fill_(-1)
        found = kept.newest(pytest.fail).read()
        assert (found["model"]["w"] == step).all()
        assert found["optimizer"]["m"][0].tolist() == [step] * 9
        assert len(found["optimizer"]["m"]) == step + 1
        assert found["small"].tolist() == [step] * 3


class Late(Stage):
    """The breach: tensors are copied in the thread, when training has gone on."""

    def copy(self, placed):
        late = super()

        class Staged:
            def pieces(self):
                assert moved.wait(60)
                return late.copy(placed).pieces()

        return Staged()


moved = threading.Event()


def test_a_copy_made_too_late_is_caught(kept):
    kept._stage = Late()
    tree = {"model": {"w": torch.zeros(1000)}}
    kept.save(1, tree)
    tree["model"]["w"].fill_(-1)
    moved.set()
    assert (kept.newest(pytest.fail).read()["model"]["w"] == -1).all()


def test_memory_is_used_again(kept):
    tree = of_step(1)
    kept.save(1, tree, wait=True)
    before = {name: buffer.data_ptr() for name, buffer in kept._stage._buffers.items()}
    kept.save(2, tree, wait=True)
    assert {name: buffer.data_ptr() for name, buffer in kept._stage._buffers.items()} == before
    tree["model"]["w"] = torch.ones(10)
    kept.save(3, tree, wait=True)
    assert {name: buffer.data_ptr() for name, buffer in kept._stage._buffers.items()} == before
    assert same(kept.newest(pytest.fail).read(), tree)


def test_a_save_waits_for_the_one_before(kept, monkeypatch):
    held, began = threading.Event(), threading.Event()
    write = disk.write

    def slow(*arguments):
        began.set()
        assert held.wait(60)
        write(*arguments)

    monkeypatch.setattr(disk, "write", slow)
    kept.save(1, of_step(1))
    assert began.wait(60)
    second = threading.Thread(target=kept.save, args=(2, of_step(2)))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    held.set()
    second.join(60)
    assert holds(kept.newest(pytest.fail).read(), 2)
    assert kept.problems() == []


def test_saves_from_many_threads_do_not_mix(kept):
    threads = [threading.Thread(target=save, args=(kept, step)) for step in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kept.newest(pytest.fail)
    assert holds(found.read(), found.step)
    assert kept.problems() == []


WRONG = {
    "step": (lambda kept: kept.save(-1, {}), ValueError, "step is a whole number, 0 or more; received -1."),
    "step of text": (lambda kept: kept.save("1", {}), ValueError, "received '1'"),
    "step is true": (lambda kept: kept.save(True, {}), ValueError, "received True"),
    "tree": (lambda kept: kept.save(1, [1]), TypeError, "The tree of a checkpoint is a dict; received an object of"),
    "score": (lambda kept: kept.save(1, {}, score="low"), TypeError, "score is a number or None"),
    "facts": (lambda kept: kept.save(1, {}, facts={"x": [torch.ones(1)]}), TypeError, "facts['x'][0] is a tensor"),
    "keep": (lambda kept: Checkpoints(Path("x"), run="", keep=1), ValueError, "keep is 2 or more"),
    "run": (lambda kept: Checkpoints(Path("x"), run="my run"), ValueError, "received 'my run'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused_in_a_sentence(kept, name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=re.escape(words)):
        call(kept)


CODES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("at", ["write", "fsync", "mkdir", "rename"])
def test_an_error_of_the_disk_is_told_and_the_next_save_succeeds(kept, folder, monkeypatch, code, at):
    save(kept, 1, 2)
    with monkeypatch.context() as patch:
        fail(patch, at, code)
        save(kept, 3)
    (problem,) = kept.problems()
    assert problem.endswith("training goes on, the last good checkpoint is step 2")
    assert "step 3" in problem
    assert str(folder) in problem
    assert problem.startswith("no space: ") == (code in (errno.ENOSPC, errno.EDQUOT))
    assert here(folder) == ["1", "2"]
    save(kept, 4)
    assert kept.problems() == []
    assert here(folder) == ["2", "4"]


def fail(patch, at, code):
    """Let one call of the operating system fail from now on."""
    error = OSError(code, os.strerror(code))

    def failing(*args, **options):
        raise error

    if at == "mkdir":
        patch.setattr(Path, "mkdir", failing)
    elif at == "write":
        patch.setattr(disk, "_write_file", after(disk._write_file, 2, failing))
    else:
        patch.setattr(os, at, failing)


def after(function, times, then):
    """A function that is another one from its third call on."""
    calls = []

    def called(*args):
        calls.append(1)
        return (function if len(calls) <= times else then)(*args)

    return called


def test_any_error_in_the_thread_is_told_and_not_raised(kept, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("by a planted fault")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", broken)
        save(kept, 1)
        save(kept, 1)
    assert kept.problems() == ["step 1 could not be saved: ZeroDivisionError: by a planted fault; training goes on"]
    save(kept, 1)
    assert kept.newest(pytest.fail).step == 1


def test_no_memory_for_the_copy_is_told(kept, monkeypatch):
    def full(*args, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full)
        save(kept, 1)
    (problem,) = kept.problems()
    assert problem == "step 1 was not saved: no memory for a copy of 8,000 bytes; training goes on"
    save(kept, 2)
    assert kept.newest(pytest.fail).step == 2


def test_an_old_one_that_cannot_be_removed_is_told(kept, folder, monkeypatch):
    save(kept, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: fail_with(errno.EACCES))
        save(kept, 3)
    (problem,) = kept.problems()
    assert problem.startswith("the old checkpoint of step 1 could not be removed from ")
    assert kept.newest(pytest.fail).step == 3
    assert here(folder) == ["2", "3"]  # the leftover is removed when the newest is looked for


def fail_with(code):
    raise OSError(code, os.strerror(code))


def test_a_folder_deleted_under_the_run_is_made_again(kept, folder):
    save(kept, 1, 2)
    shutil.rmtree(folder.parent)
    save(kept, 3)
    (problem,) = kept.problems()
    assert problem == f"{folder} was deleted or moved while the run went on; it is made again for step 3"
    assert here(folder) == ["3"]
    save(kept, 4)
    assert kept.problems() == []


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "run").write_text("")
    kept = Checkpoints(tmp_path / "run" / "checkpoints", run="a1")
    save(kept, 1)
    (problem,) = kept.problems()
    assert "training goes on, there is no good checkpoint yet" in problem
    assert kept.newest(pytest.fail) is None
    kept.close()


def test_after_closing_a_save_is_refused(kept):
    kept.save(1, of_step(1))
    kept.close()
    kept.close()
    with pytest.raises(ValueError, match=r"Step 2 was not saved: these checkpoints are closed\. Save before close"):
        kept.save(2, of_step(2))
    assert kept.newest(pytest.fail).step == 1


def test_a_second_run_in_the_same_folder_gets_a_sentence(kept, folder):
    save(kept, 1, 2)
    (folder / ".tmp-step-3-1-abcd").mkdir()
    (folder / "step-000000004").mkdir()
    second, said = Checkpoints(folder, run="b2"), []
    assert second.newest(said.append).step == 2
    assert f"belongs to a run that is still going on (process {os.getpid()} on " in said[0]
    assert "it was left where it is" in said[1]
    save(second, 5, 6)
    (problem,) = second.problems()
    assert problem == said[0]
    assert here(folder) == [".tmp-step-3-1-abcd", "1", "2", "4"]
    kept.close()
    save(second, 5)
    assert second.problems() == []
    assert "5" in here(folder)
    second.close()


def test_without_the_lock_two_runs_would_write(kept, folder, monkeypatch):
    """The planted breach: what the lock is for."""
    save(kept, 1)
    monkeypatch.setattr(fcntl, "flock", lambda handle, kind: None)
    second = Checkpoints(folder, run="b2")
    save(second, 5)
    assert second.problems() == []
    assert here(folder) == ["1", "5"]
    second.close()


def test_a_folder_is_given_up_with_the_object(folder):
    first = Checkpoints(folder, run="a1")
    save(first, 1)
    del first
    gc.collect()
    second = Checkpoints(folder, run="a1")
    save(second, 2)
    assert second.problems() == []
    second.close()


FORK = """
import os, sys, time, torch
from pathlib import Path
from steepest.checkpoint import Checkpoints
kept = Checkpoints(Path(sys.argv[1]), run="a1")
kept.save(1, {"model": {"w": torch.ones(3)}}, wait=True)
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_a_forked_child_does_not_hold_the_folder_of_a_killed_run(folder):
    """A worker that outlives its run for some seconds must not keep the run from being started anew."""
    with subprocess.Popen([sys.executable, "-c", FORK, folder], stdout=subprocess.PIPE, text=True) as first:
        child = int(first.stdout.readline())
        try:
            second = Checkpoints(folder, run="a1")
            save(second, 2)
            assert "is still going on" in second.problems()[0]  # as long as it is
            first.kill()
            first.wait()
            os.kill(child, 0)
            save(second, 2)
            assert second.problems() == []
            second.close()
        finally:
            os.kill(child, signal.SIGKILL)
            first.kill()


def test_leftovers_are_removed(kept, folder):
    save(kept, 1)
    for name in (".tmp-step-2-1-abcd", f".tmp-step-2-{os.getpid()}-abcd"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_text("half")
    assert kept.newest(pytest.fail).step == 1
    assert here(folder) == ["1"]


EXIT = """
import atexit, sys, torch
from pathlib import Path
from steepest.checkpoint import Checkpoints
kept = Checkpoints(Path(sys.argv[1]), run="a1")
tree = lambda step: {"model": {"w": torch.full((2_000_000,), float(step))}}
if sys.argv[2] == "atexit":
    atexit.register(lambda: kept.save(2, tree(2)))
kept.save(1, tree(1))
if sys.argv[2] == "error":
    raise ValueError("planted")
"""


@pytest.mark.parametrize("ending", ["end", "error", "atexit"])
def test_what_was_saved_is_written_when_the_interpreter_ends(folder, ending):
    done = subprocess.run([sys.executable, "-c", EXIT, folder, ending], capture_output=True, text=True, check=False)
    assert done.returncode == (ending == "error")
    assert done.stderr == "" or ending == "error"
    expected = 2 if ending == "atexit" else 1
    assert [(each.step, each.fault) for each in verify(folder)][-1] == (expected, None)
