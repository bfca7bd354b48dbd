"""A script that knows nothing of the doctor: it runs as it would, and what goes wrong in it is said at the end."""

import json
import subprocess
import sys

import pytest

from steepest.cli import main

SCRIPT = """
import argparse, hashlib
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import beside

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=16)
parser.add_argument("--debug", action="store_true")
args = parser.parse_args()
torch.manual_seed(0)
x = torch.randn(512, 8)
loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss()
if __name__ == "__main__":
    for step, (inputs, targets) in zip(range(args.steps), loader):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
    numbers = b"".join(each.detach().numpy().tobytes() for each in model.parameters())
    print(beside.word, args.debug, loss.item(), hashlib.sha256(numbers).hexdigest())
"""
END = "    numbers ="


@pytest.fixture
def script(tmp_path):
    (tmp_path / "beside.py").write_text("word = 'beside'")
    path = tmp_path / "train.py"

    def write(text=SCRIPT):
        path.write_text(text)
        return str(path)

    yield write
    sys.modules.pop("beside", None)


def run(capfd, *words):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    told = capfd.readouterr()
    return ended.value.code, told.out, told.err


def test_stdout_is_what_python_gives_to_the_bit_and_a_healthy_script_ends_with_0(script, capfd):
    path = script()
    plain = subprocess.run([sys.executable, path, "--debug"], capture_output=True, text=True, check=True)
    code, out, err = run(capfd, path, "--debug")
    assert (code, out) == (0, plain.stdout)
    assert "True" in out
    assert "16 steps; loss(model, batch) was read, and came out to the bit for 3 batches" in err
    assert err.rstrip().endswith("nothing is found")


@pytest.mark.parametrize(
    ("cause", "sound", "faulty"),
    [
        ("A01", "optimizer.zero_grad()", "pass"),
        ("A08", "criterion(model(inputs), targets)", "criterion(model(inputs).softmax(1), targets)"),
        ("A03", "optimizer.step()", "optimizer.step"),
    ],
)
def test_a_fault_is_proven_and_the_status_says_so(script, capfd, cause, sound, faulty):
    assert sound in SCRIPT
    code, out, err = run(capfd, "--json", script(SCRIPT.replace(sound, faulty)))
    found = json.loads(out.splitlines()[-1])
    assert code == 2
    assert (found[0]["cause"], found[0]["status"]) == (cause, "proven")
    assert err == ""


def test_findings_are_printed_after_an_error_of_the_script_whose_traceback_is_its_own(script, capfd):
    broken = SCRIPT.replace("optimizer.zero_grad()", "pass").replace(END, f"    model(torch.ones(2, 9))\n{END}")
    code, _, err = run(capfd, script(broken))
    assert code == 3
    assert err.startswith("Traceback (most recent call last):")
    assert "model(torch.ones(2, 9))" in err
    assert "steepest" not in err.partition("\n\n")[0]
    assert "A01 missing-zero-grad, proven" in err


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(0)", 0, ""),
        ("import sys; sys.exit(4)", 3, ""),
        ("import sys; sys.exit('no more')", 3, "no more\n"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt\n"),
    ],
)
def test_how_a_script_ends_is_respected(script, capfd, end, code, told):
    ended, out, err = run(capfd, script(SCRIPT.replace(END, f"    {end}\n{END}")))
    assert (ended, out) == (code, "")
    assert told in err
    assert "16 steps" in err


def test_a_script_that_does_not_parse_or_is_not_there(script, capfd):
    code, _, err = run(capfd, script("def ("))
    assert code == 3
    assert any(line.startswith("SyntaxError") for line in err.splitlines())
    code, _, err = run(capfd, "nowhere.py", "--epochs", "3")
    assert code == 2
    assert err.startswith("error: There is no file 'nowhere.py'")


def test_a_script_without_training_is_said_to_have_none(script, capfd):
    code, out, err = run(capfd, script("import sys; print(sys.argv[1:], __name__, __file__)"), "a", "--json")
    assert code == 0
    assert out.startswith("['a', '--json'] __main__ ")
    assert "no training was seen" in err


def test_of_several_optimizers_it_is_said_which_one_a_finding_is_of(script, capfd):
    loop = SCRIPT[SCRIPT.index("model = ") :].replace("Adam(", "SGD(").replace("optimizer.zero_grad()", "pass")
    _, out, _ = run(capfd, "--json", script(SCRIPT + loop))
    found = json.loads(out.splitlines()[-1])
    assert [(each["of"], each["cause"]) for each in found] == [("Sequential under SGD", "A01")]


def test_gradients_that_nobody_will_use_do_not_keep_the_doctor_from_looking(script, capfd):
    evaluated = "    with torch.no_grad():\n        model(x)\n    criterion(model(x), x.argmax(1) % 3).backward()\n"
    text = SCRIPT.replace("nn.Dropout(0.1)", "nn.Dropout(0.5)").replace(END, evaluated + END)
    code, _, err = run(capfd, script(text.replace("zip(range(args.steps), loader)", "enumerate(loader)")))
    assert code == 2, err
    assert "A17 evaluated-in-train-mode, proven" in err
