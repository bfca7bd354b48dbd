"""Whatever is written into the files, nothing of it runs: a file is refused, or a text stays a text."""

import hashlib
import json
import os
import pickle
import struct
import sys

import pytest
import torch
from samples import same

from steepest.checkpoint import Checkpoints
from steepest.checkpoint.manifest import MANIFEST, Manifest, read_manifest

FILES = ["model.safetensors", "optimizer.safetensors", "state.json"]


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path):
    """A file that is there once hostile code has run."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()
    assert "hostile_module" not in sys.modules


@pytest.fixture
def folder(tmp_path):
    kept = Checkpoints(tmp_path / "checkpoints", run="a1")
    for step in (1, 2):
        kept.save(step, {"model": {"w": torch.ones(9)}, "optimizer": {"m": torch.ones(9)}, "x": 1}, wait=True)
    kept.close()
    return tmp_path / "checkpoints"


def plant(folder, name, content):
    """Replace a file of step 2 and make a manifest for it, as one can who knows the format."""
    path = folder / "step-000000002"
    (path / name).write_bytes(content)
    old = read_manifest(path)
    files = old.files | {name: (len(content), hashlib.sha256(content).hexdigest())}
    (path / MANIFEST).write_bytes(Manifest(old.run, old.step, old.score, old.facts, files).render())


def said_of(folder):
    """Everything that looks at the newest checkpoint; returns it and what was said."""
    said = []
    kept = Checkpoints(folder, run="a1")
    found = kept.newest(said.append)
    found.read()
    kept.best()
    kept.close()
    return found, said


def test_a_planted_bomb_would_run(tmp_path):
    """The breach: with pickle it does run, so the tests below test something."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_in_every_file(folder, mark, name, kind):
    if kind == "pickle":
        content = pickle.dumps(Bomb(mark))
    else:
        torch.save({"model": Bomb(mark)}, folder / "bomb")
        content = (folder / "bomb").read_bytes()
    plant(folder, name, content)
    found, said = said_of(folder)
    assert found.step == 1
    assert name in said[0]


def test_a_pickle_in_place_of_the_manifest_is_refused(folder, mark):
    (folder / "step-000000002" / MANIFEST).write_bytes(pickle.dumps(Bomb(mark)))
    assert said_of(folder)[0].step == 1


NAMES = [
    "os.system", "__import__('os').system('touch it-ran')", "hostile_module", "!!python/object/apply:os.system",
    "${jndi:ldap://x}", "{{7*7}}", "csystem\n(S'touch it-ran'\ntR.",
]  # fmt: skip


@pytest.mark.parametrize("text", NAMES)
def test_a_name_stays_a_text(tmp_path, mark, text):
    tree = {
        "model": {text: torch.ones(2)},
        "optimizer": {"state": {text: torch.ones(2)}, "_class_path": text, "_instantiator": text},
        text: {"_class_path": text, "init_args": {"command": text}, "__reduce__": [text]},
        "x": [{"dtype": text}, {"tensor": {"file": text, "name": text}}, {"bytes": text}, (text,)],
    }
    kept = Checkpoints(tmp_path / "checkpoints", run="a1")
    kept.save(1, tree, facts=tree["x"][0] | {"_class_path": text, text: text}, wait=True)
    found = kept.newest(pytest.fail)
    assert same(found.read(), tree)
    assert found.facts == {"dtype": text, "_class_path": text, text: text}
    kept.close()


FIELDS = {
    "unknown kind": {"object": ["os.system", ["touch it-ran"]]},
    "class path": {"_class_path": "os.system"},
    "reduce": {"__reduce__": ["os.system", ["touch it-ran"]]},
    "dtype": {"dtype": "__class__"},
    "dtype with a dot": {"dtype": "os.system"},
    "two kinds": {"tuple": [], "list": []},
    "no kind": {},
    "size of text": {"size": ["os.system"]},
    "key that is no key": {"pairs": [[[1], 2]]},
    "bytes": {"bytes": "os.system"},
    "number": {"int": "__import__('os')"},
    "float": {"float": "os.system"},
    "file outside": {"tensor": {"file": "../../etc/passwd", "name": "w", "dtype": "float32", "shape": [9]}},
    "no such tensor": {"tensor": {"file": "model.safetensors", "name": "v", "dtype": "float32", "shape": [9]}},
    "other shape": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": [10]}},
    "huge shape": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": [2**62, 2**62]}},
    "shape of text": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": "os.system"}},
    "dtype of tensor": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "os.system", "shape": [9]}},
    "beyond its memory": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": [9],
                                     "stride": [2], "offset": 0}},
    "before its memory": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": [3],
                                     "stride": [1], "offset": -1}},
    "backwards": {"tensor": {"file": "model.safetensors", "name": "w", "dtype": "float32", "shape": [3, 3],
                             "stride": [-3, 9], "offset": 0}},
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_steepest_never_writes_is_refused(folder, mark, name):
    content = {"tree": {"dict": {"x": FIELDS[name]}}, "tensors": {}}
    plant(folder, "state.json", json.dumps(content).encode())
    found, said = said_of(folder)
    assert found.step == 1
    assert "state.json does not hold a tree that fits its tensors" in said[0]


TEXTS = {
    "empty": b"", "no object": b"[]", "no tree": b"{}", "list for a tree": b'{"tree": [], "tensors": {}}',
    "deep": b'{"tensors": {}, "tree": {"dict": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
    "number": b'{"tensors": {}, "tree": {"dict": {"x": ' + b"9" * 100_000 + b"}}}",
    "not UTF-8": b"\xff\xfe\xfd", "cut": b'{"tree": {"dict": {"x"',
    "other hex": b'{"tree": {"dict": {}}, "tensors": {"x": {"hex": "zz"}}}',
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_steepest_never_writes_is_refused(folder, mark, name):
    plant(folder, "state.json", TEXTS[name])
    assert said_of(folder)[0].step == 1


def headed(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin, end, shape=(9,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HEADERS = {
    "empty": b"",
    "short": b"\x01\x02",
    "length beyond the file": headed({}, length=2**40),
    "length beyond memory": headed({}, length=2**64 - 1),
    "no header": headed(b"[]"),
    "beyond the file": headed({"w": entry(0, 36)}, bytes(35)),
    "more than the tensors": headed({"w": entry(0, 36)}, bytes(37)),
    "hole": headed({"w": entry(4, 40)}, bytes(40)),
    "overlapping": headed({"w": entry(0, 36), "v": entry(32, 68)}, bytes(68)),
    "backwards": headed({"w": entry(36, 0)}, bytes(36)),
    "huge": headed({"w": entry(0, 36, (2**62, 2**62))}, bytes(36)),
    "dtype": headed({"w": entry(0, 36, dtype="os.system")}, bytes(36)),
    "offsets of text": headed({"w": {"dtype": "F32", "shape": [9], "data_offsets": ["0", "36"]}}, bytes(36)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_of_tensors_with_a_wrong_header_is_refused(folder, mark, name):
    plant(folder, "model.safetensors", HEADERS[name])
    found, said = said_of(folder)
    assert found.step == 1
    assert "model.safetensors" in said[0]


def test_the_planted_file_is_the_only_fault(folder):
    """Beside the breaches: sound content that is planted the same way is taken."""
    content = headed({"w": entry(0, 36)}, torch.full((9,), 5.0).numpy().tobytes())
    plant(folder, "model.safetensors", content)
    found, said = said_of(folder)
    assert (found.step, said) == (2, [])
    assert (found.read()["model"]["w"] == 5).all()


def test_a_file_under_a_name_that_steepest_never_writes_is_refused(folder, mark):
    plant(folder, "training_args.bin", pickle.dumps(Bomb(mark)))
    found, said = said_of(folder)
    assert found.step == 1
    assert "training_args.bin" in said[0]


MANIFESTS = {
    "step of text": {"step": "os.system"}, "run": {"run": 5}, "score": {"score": {"_class_path": "os.system"}},
    "facts": {"facts": {"object": "os.system"}}, "files": {"files": ["a"]}, "format": {"format": "os.system"},
    "outside": {"files": {"../step-000000001/state.json": {"size": 1, "sha256": ""}}}, "old": {"format": 0},
    "tensor": {"facts": {"dict": {"x": {"tensor": {"file": "a"}}}}}, "no size": {"files": {"state.json": {}}},
}  # fmt: skip


def sealed(content):
    body = json.dumps(content)[:-1].encode()
    return body + b',\n"digest": "%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def changed(folder, **fields):
    path = folder / "step-000000002" / MANIFEST
    content = json.loads(path.read_bytes())
    del content["digest"]
    path.write_bytes(sealed(content | fields))


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_with_a_wrong_field_is_refused(folder, mark, name):
    changed(folder, **MANIFESTS[name])
    found, said = said_of(folder)
    assert (found.step, len(said)) == (1, 1)


def test_a_manifest_sealed_anew_is_not_a_fault_in_itself(folder):
    changed(folder)
    assert said_of(folder)[0].step == 2


def test_a_newer_format_is_left_alone(folder):
    changed(folder, format=2, steepest="3.1.4", future={"anything": [1]})
    kept = Checkpoints(folder, run="a1")
    with pytest.raises(ValueError, match=r"was written by steepest 3\.1\.4 in format 2; .* reads format 1\."):
        kept.newest(pytest.fail)
    before = (folder / "step-000000002" / MANIFEST).read_bytes()
    for step in (2, 3, 4, 5):
        kept.save(step, {"model": {"w": torch.ones(9)}}, wait=True)
    (problem,) = kept.problems()
    assert problem.startswith("step 2 was not saved: ")
    assert "steepest 3.1.4" in problem
    assert (folder / "step-000000002" / MANIFEST).read_bytes() == before
    kept.close()
