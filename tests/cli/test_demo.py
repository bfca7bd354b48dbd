"""The demo: real text split without overlap, a model that cannot look ahead, and bits that are counted right."""

import lzma
import math
import re
from functools import partial

import pytest
import torch

from steepest.cli import demo
from steepest.cli.demo.gpt import GPT
from steepest.cli.demo.text import is_held_out, library_files, split, xz_bits_per_byte

small = partial(GPT, width=32, depth=2, heads=2, context=32)


def stirred():
    """A small model with an opinion: the zeros it starts with are gone."""
    model = small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return model


def test_the_library_is_split_by_file_name_alone():
    files = library_files()
    train, held_out = split(files)
    assert len(train) + len(held_out) == sum(map(len, files.values()))
    assert 0.02 < len(held_out) / len(train) < 0.25
    backwards = dict(reversed(files.items()))
    assert sorted(filter(is_held_out, backwards)) == sorted(filter(is_held_out, files))
    assert split({"a.py": b"1", "b.py": b"2", "asyncio/subprocess.py": b"3"}) == (b"12", b"3")
    assert not any("test" in name.split("/") or "site-packages" in name for name in files)


def test_a_python_without_sources_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(ValueError, match=r"This Python has 0 bytes of library sources in .*; run it with a Python"):
        library_files()


def test_windows_predict_every_byte_once():
    text = bytes(range(1, 1 + 4 * 8 + 1))
    rows = demo.windows(text, 8)
    assert rows[:, 1:].flatten().tolist() == list(text[1:])
    assert rows[1:, 0].tolist() == rows[:-1, -1].tolist()


def test_the_model_does_not_look_ahead():
    model, text = stirred(), torch.randint(0, 256, (1, 32))
    changed = text.clone()
    changed[0, 20] = (changed[0, 20] + 1) % 256
    before, after = model(text), model(changed)
    assert torch.allclose(before[:, :20], after[:, :20], atol=1e-5)
    assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-2)


def test_the_model_sees_all_its_context():
    model, text = stirred(), torch.randint(0, 256, (1, 32))
    changed = text.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 256
    assert not torch.allclose(model(text)[0, -1], model(changed)[0, -1], atol=1e-6)


def test_a_model_that_knows_nothing_needs_eight_bits():
    text = bytes(torch.randint(0, 256, (16 * 20 + 1,)).tolist())
    assert demo.bits_per_byte(small(), text) == pytest.approx(8, abs=1e-5)


def test_bits_are_those_of_coding_byte_after_byte():
    model = stirred()
    text = bytes(torch.randint(0, 256, (16 * 5 + 1,)).tolist())
    bits = 8.0
    for place in range(1, len(text)):
        begin = 0 if place <= 32 else (place - 17) // 16 * 16
        chances = model(torch.tensor([list(text[begin:place])]))[0, -1].softmax(0)
        bits -= math.log2(chances[text[place]].item())
    assert demo.bits_per_byte(model, text) == pytest.approx(bits / len(text), rel=1e-5)


def test_xz_is_the_real_one():
    text = b"the same again and again " * 40
    assert xz_bits_per_byte(text) == len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) * 8 / len(text)


def test_what_is_written_depends_on_the_seed_and_continues_the_start():
    model = stirred()
    first = model.write(b"def ", 50, seed=1)
    assert first.startswith(b"def ")
    assert len(first) == 54
    assert model.write(b"def ", 50, seed=1) == first
    assert model.write(b"def ", 50, seed=2) != first


def test_the_demo_runs_to_its_end_and_the_model_learns(monkeypatch, capsys):
    files = {f"{number}.py": b"def f(x):\n    return x + 1\n" * 200 for number in range(30)}
    monkeypatch.setattr(demo, "library_files", lambda: files)
    monkeypatch.setattr(demo, "GPT", small)
    assert demo.run_demo(steps=60, seed=0)  # four of them for measuring, 56 updates of 256 bytes
    out = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"val/loss (\d+\.\d+)", out)]
    assert losses[-1] < 0.5 < losses[0]
    bits = dict(re.findall(r"^  (\d\.\d{3})  (.*)$", out, re.MULTILINE))
    assert list(bits.values()) == [
        "the model, after 14,336 bytes of other files", "xz -9", "xz -9, after as many bytes of other files",
    ]  # fmt: skip
    assert all(0 < float(value) < 8 for value in bits)
    assert out.count('def read(self, size=-1):\n    """') == 2
