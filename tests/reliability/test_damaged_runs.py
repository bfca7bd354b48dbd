"""Every file of a checkpoint of `fit` damaged in every way: the run goes on from the one before it, and says so."""

import pytest
from reliability import damage

from steepest.checkpoint import reading
from steepest.checkpoint.manifest import read_manifest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return damage.Place(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("harm", damage.HARMS.values(), ids=damage.HARMS)
def test_every_file(place, harm):
    files = place.files()
    assert {"MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"} <= set(files)
    assert [file for file in files if not place.survives(harm, file)] == []
    assert not place.mark.exists()


def test_a_checkpoint_of_another_run(place):
    assert place.survives(damage.other_checkpoint, "")


def test_a_reader_without_digests_is_found(place, monkeypatch):
    """The planted fault: what other trainers do, which a flipped bit gets through."""
    monkeypatch.setattr(reading, "_digest", lambda path: read_manifest(path.parent).files[path.name][1])
    monkeypatch.setattr(reading, "_compare", lambda path, digest, manifest: None)
    assert not place.survives(damage.flip, "model.safetensors")


def test_a_reader_that_only_looks_at_names_is_found(place, monkeypatch):
    monkeypatch.setattr("steepest.checkpoint.checkpoints.of_another_run", lambda manifest, run: "")
    monkeypatch.setattr("steepest.checkpoint.checkpoints.Checkpoints._expected_run", lambda self: "")
    assert not place.survives(damage.other_checkpoint, "")
