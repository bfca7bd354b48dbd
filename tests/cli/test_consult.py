"""The doctor's commands: what they print, and what they exit with."""

import json

import pytest

from steepest.cli import main

SOUND = """
import torch, steepest
def task():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    x = torch.randn(512, 8)
    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    return steepest.Task(model, loss, (x, x[:, :3].argmax(1)), steps=300)
"""


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def test_a_task_is_examined_and_the_status_says_what_came_of_it(tmp_path, capsys):
    sound, faulty = tmp_path / "sound.py", tmp_path / "faulty.py"
    sound.write_text(SOUND)
    faulty.write_text(SOUND.replace("model(batch[0])", "model(batch[0]).softmax(1)"))
    code, out, _ = run(capsys, "doctor", f"{sound}:task")
    assert code == 0
    assert out.startswith("0 of ")
    code, out, _ = run(capsys, "doctor", f"{faulty}:task", "--json")
    assert code == 2
    assert json.loads(out)[0]["cause"] == "A08"


def test_a_cause_is_demonstrated_with_and_without_it(capsys):
    code, out, _ = run(capsys, "doctor", "--demo", "a02")
    assert code == 2
    assert "A02 zero-grad-before-step, proven" in out
    assert out.rstrip().endswith("without the fault: nothing is found")


def test_the_catalogue_names_every_cause_and_tells_all_of_one(capsys):
    assert "A01  missing-zero-grad" in run(capsys, "causes")[1]
    out = run(capsys, "causes", "D07")[1]
    assert all(word in out for word in ("symptom:", "how it is found:", "fix:", "demonstration:"))


@pytest.mark.parametrize(
    "words", [["doctor"], ["doctor", "a.py:b", "--demo", "A01"], ["causes", "Z9"], ["doctor", "--demo", "Z9"]]
)
def test_what_cannot_be_is_said_in_a_sentence(words, capsys):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
