"""Names and options as they are typed."""

import pytest
import torch

from steepest.testing import find, parse_options


def test_a_class_is_found():
    assert find("torch.optim:AdamW") is torch.optim.AdamW


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("torch.optim.AdamW", 'named "module:Class"'),
        ("torch.optim:", 'named "module:Class"'),
        ("torch.optimum:AdamW", "no module 'torch.optimum'"),
        ("nowhere.at.all:AdamW", "no module 'nowhere'"),
        ("torch.optim:Adamw", "torch.optim has no 'Adamw'; did you mean 'AdamW'?"),
        ("torch.optim:Sgd", "did you mean 'SGD'?"),
        ("torch.optim:Completely", "torch.optim has no 'Completely'; there are ASGD, Adadelta, "),
        ("math:pi", "is a float, and not an optimizer class"),
    ],
)
def test_a_wrong_name_raises_one_sentence(name, sentence):
    with pytest.raises(ValueError) as failure:  # noqa: PT011
        find(name)
    assert sentence in str(failure.value)
    assert "\n" not in str(failure.value)


def test_options_are_read_as_python_or_text():
    numbers = parse_options(["lr=1e-3", "betas=(0.9, 0.99)", "fused=true", "foreach=False", "adjust=None"])
    assert numbers == {"lr": 1e-3, "betas": (0.9, 0.99), "fused": True, "foreach": False, "adjust": None}
    assert parse_options(["rounding=kahan", "a=b=c"]) == {"rounding": "kahan", "a": "b=c"}


@pytest.mark.parametrize("word", ["lr", "=3", "0lr=3", "weight-decay=1"])
def test_a_malformed_option_raises(word):
    with pytest.raises(ValueError, match="name=value"):
        parse_options([word])


def test_a_module_that_does_not_import_raises_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="Importing 'half_written' raised ZeroDivisionError: division by zero"):
        find("half_written:Mine")
