"""A checkpoint with any fault is found out, set aside with a sentence, and the one before it is used."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from samples import holds, of_step, same

from steepest.checkpoint import Checkpoints, verify
from steepest.checkpoint.manifest import MANIFEST, Damaged, parse, read_manifest

FILES = ["model.safetensors", "optimizer.safetensors", "rest.safetensors", "state.json", "MANIFEST.json"]


def tree(step):
    return of_step(step) | {"ema": torch.full((20_000,), step)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two runs with the checkpoints 1 and 2 each, to be copied."""
    folder = tmp_path_factory.mktemp("written")
    for run in ("a1", "b2"):
        kept = Checkpoints(folder / run, run=run)
        for step in (1, 2):
            kept.save(step, tree(step), score=float(step), wait=True)
        kept.close()
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return Path(shutil.copytree(written / "a1", tmp_path / "checkpoints"))


def newest(folder, run="a1"):
    said = []
    kept = Checkpoints(folder, run=run)
    found = kept.newest(said.append)
    kept.close()
    return found, said


def assert_set_aside(folder, *words):
    """The law: step 2 is found out and set aside, told once with these words, and step 1 is used."""
    second = folder / "step-000000002"
    assert any(verdict.fault for verdict in verify(folder))
    found, said = newest(folder)
    assert (found.step, len(said)) == (1, 1)
    assert same(found.read(), tree(1))
    assert said[0].startswith("The checkpoint of step 2 is damaged: ")
    assert said[0].endswith("; it is now step-000000002.damaged, and the one before it is tried.")
    assert all(word in said[0] for word in words)
    assert not second.exists()
    assert (folder / "step-000000002.damaged").exists()
    again, said = newest(folder)
    assert (again.step, said) == (1, [])


def test_sound_checkpoints_are_used_as_they_are(folder):
    """Beside the breaches: without one, nothing is said, and the newest is used."""
    found, said = newest(folder)
    assert (found.step, found.score, said) == (2, 2.0, [])
    assert same(found.read(), tree(2))
    assert [each.fault for each in verify(folder)] == [None, None]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_anywhere(folder, name):
    path = folder / "step-000000002" / name
    content = path.read_bytes()
    number = 8 * len(content)
    for bit in {0, 7, 100, number // 3, number // 2, number - 600, number - 9, number - 1}:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert [each.fault is None for each in verify(folder)] == [True, False], f"bit {bit}"
    assert_set_aside(folder, name)


def test_every_bit_of_a_manifest_counts(folder):
    path = folder / "step-000000002" / MANIFEST
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            parse(bytes(damaged), path)
    assert parse(content, path).step == 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, -1])
def test_a_truncated_file_is_found(folder, name, length):
    path = folder / "step-000000002" / name
    os.truncate(path, length if length >= 0 else path.stat().st_size + length)
    assert_set_aside(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_found(folder, name):
    (folder / "step-000000002" / name).unlink()
    assert_set_aside(folder, name, "is missing")


@pytest.mark.parametrize("name", FILES)
def test_a_longer_file_is_found(folder, name):
    with (folder / "step-000000002" / name).open("ab") as file:
        file.write(b"\n")
    assert_set_aside(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_step_is_found(folder, name):
    shutil.copy(folder / "step-000000001" / name, folder / "step-000000002" / name)
    assert_set_aside(folder, "step-000000002")


def test_a_manifest_of_another_run_is_found(folder, written):
    shutil.copy(written / "b2" / "step-000000002" / MANIFEST, folder / "step-000000002" / MANIFEST)
    assert_set_aside(folder, "is of run b2, and the others are of run a1")


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_file_of_another_run_is_found(folder, tmp_path, name):
    other = Checkpoints(tmp_path / "other", run="b2")
    changed = tree(2)
    changed["model"]["w"] += 1
    changed["optimizer"]["m"] += 1
    changed["ema"] += 1
    other.save(2, changed | {"step": 3}, score=2.0, wait=True)
    other.close()
    shutil.copy(tmp_path / "other" / "step-000000002" / name, folder / "step-000000002" / name)
    assert_set_aside(folder, name, "sha256")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none_is_found(folder, name):
    path = folder / "step-000000002" / name
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert verify(folder)[1].fault is not None
    path.rmdir()
    os.mkfifo(path)
    assert "not a plain file" in verify(folder)[1].fault  # a pipe is not waited for
    path.unlink()
    (folder / "elsewhere").write_bytes(content)
    path.symlink_to(folder / "elsewhere")
    assert_set_aside(folder, name)


@pytest.mark.parametrize("extra", ["notes.txt", "model.safetensors.bak", ".hidden", "pytorch_model.bin"])
def test_an_extra_file_is_found(folder, extra):
    (folder / "step-000000002" / extra).write_text("hello")
    assert_set_aside(folder, extra, "does not belong to it")


def test_an_empty_folder_is_found(folder):
    shutil.rmtree(folder / "step-000000002")
    (folder / "step-000000002").mkdir()
    assert_set_aside(folder, MANIFEST, "is missing")


def test_a_file_in_place_of_a_folder_is_found(folder):
    shutil.rmtree(folder / "step-000000002")
    (folder / "step-000000002").write_text("")
    assert_set_aside(folder, "is not a folder")


def test_a_checkpoint_under_the_name_of_another_step_is_found(folder):
    shutil.rmtree(folder / "step-000000002")
    shutil.copytree(folder / "step-000000001", folder / "step-000000002")
    assert_set_aside(folder, "says that this is step 1")


def test_a_checkpoint_of_another_run_is_found(folder, written):
    shutil.rmtree(folder / "step-000000002")
    shutil.copytree(written / "b2" / "step-000000002", folder / "step-000000002")
    assert_set_aside(folder, "is of run b2, and the others are of run a1")


def test_checkpoints_that_are_all_of_another_run_are_used(folder):
    found, said = newest(folder, run="c3")
    assert (found.step, found.run, said) == (2, "a1", [])


def test_without_an_id_the_newest_sound_one_gives_it(folder, written):
    shutil.copytree(written / "b2" / "step-000000001", folder / "step-000000000")
    (folder / "step-000000002" / MANIFEST).unlink()
    kept = Checkpoints(folder, run="")
    assert kept.newest(lambda sentence: None).run == "a1"
    kept.save(3, tree(3), wait=True)
    kept.close()
    assert read_manifest(folder / "step-000000003").run == "a1"


def test_a_second_damaged_one_gets_another_name(folder):
    for expected in ("step-000000002.damaged", "step-000000002.damaged-2", "step-000000002.damaged-3"):
        (folder / "step-000000002").mkdir(exist_ok=True)
        (folder / "step-000000002" / MANIFEST).unlink(missing_ok=True)
        assert newest(folder)[1][0].count(f" {expected},") == 1
        assert (folder / expected).is_dir()


def test_when_all_are_damaged_there_is_none(folder):
    for path in folder.glob("step-*"):
        (path / "state.json").unlink()
    found, said = newest(folder)
    assert found is None
    assert len(said) == 2


def test_the_best_one_is_sound(folder):
    kept = Checkpoints(folder, run="a1")
    assert kept.best().step == 1
    (folder / "step-000000001" / "state.json").write_text("{}")
    assert kept.best().step == 2
    kept.close()


def test_damage_after_it_was_found_is_told_by_read(folder):
    found, _ = newest(folder)
    path = found.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"The checkpoint of step 2 is damaged: the content of .*model\.safetensors"):
        found.read()


@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_medium_is_damage(folder, name, monkeypatch):
    fail_to_open(monkeypatch, folder / "step-000000002" / name, errno.EIO)
    found, said = newest(folder)
    assert found.step == 1
    assert name in said[0]


def test_a_missing_permission_is_not_damage(folder, monkeypatch):
    """Else a run started by another user would set good checkpoints aside and begin anew."""
    for name in FILES:
        with monkeypatch.context() as patch:
            fail_to_open(patch, folder / "step-000000002" / name, errno.EACCES)
            with pytest.raises(PermissionError):
                newest(folder)
        assert (folder / "step-000000002").is_dir()
    assert newest(folder)[0].step == 2


def fail_to_open(monkeypatch, path, code):
    def opened(self, *args, **options):
        if self == path:
            raise OSError(code, os.strerror(code), str(self))
        return open(self, *args, **options)

    monkeypatch.setattr(Path, "open", opened)


def test_verify_takes_a_run_a_folder_or_a_checkpoint(folder, tmp_path):
    one = verify(folder / "step-000000002")
    assert verify(tmp_path) == verify(folder) == [*verify(folder / "step-000000001"), *one]
    assert (one[0].path, one[0].step, one[0].fault) == (folder / "step-000000002", 2, None)
    moved = folder.rename(tmp_path / "kept") / "step-000000002"
    assert verify(moved.rename(tmp_path / "published"))[0].step == 2
    (tmp_path / "published" / "state.json").unlink()
    assert "state.json is missing." in verify(tmp_path / "published")[0].fault
    with pytest.raises(ValueError, match="nothing is not a folder"):
        verify(tmp_path / "nothing")


def test_verify_changes_nothing(folder):
    (folder / "step-000000002" / "state.json").unlink()
    before = sorted(folder.rglob("*"))
    verify(folder)
    assert sorted(folder.rglob("*")) == before


def test_a_tree_of_one_step_does_not_pass_for_another():
    """The breach that `holds` must catch."""
    assert holds(of_step(3), 3)
    assert not holds(of_step(3), 4)
