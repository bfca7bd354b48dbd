"""Loops as strangers write them: watched or not, they print the same numbers; and the loss is read where it can be."""

import runpy

import pytest

from steepest.doctor.history import History
from steepest.doctor.script import run_script

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler asks for it, watched or not

HEAD = """
import hashlib
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 12)
y = x[:, :4].argmax(1)

def batches(steps=8):
    for _ in range(steps):
        rows = torch.randint(256, (32,))
        yield x[rows], y[rows]

def network(outputs=4):
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, outputs))

def done(*models):
    numbers = b"".join(each.detach().numpy().tobytes() for model in models for each in model.parameters())
    print(hashlib.sha256(numbers).hexdigest(), torch.rand(1).item())
"""

LOOPS = {
    "accumulated": """
model = network()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
for epoch in range(2):
    model.train()
    for index, (inputs, targets) in enumerate(DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)):
        (F.cross_entropy(model(inputs.to("cpu")), targets, label_smoothing=0.1) / 2).backward()
        if index % 2:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    model.eval()
    with torch.no_grad():
        print(sum(F.cross_entropy(model(inputs), targets) for inputs, targets in DataLoader(TensorDataset(x, y), 64)))
done(model)
""",
    "half precision": """
model = network(1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scaler = torch.amp.GradScaler("cpu")
for inputs, targets in batches():
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(inputs).squeeze(1)
    loss = F.mse_loss(output.float(), targets.float())
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
done(model)
""",
    "two models under one optimizer": """
encoder, decoder = nn.GRU(12, 16, batch_first=True), nn.Linear(16, 4)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
for inputs, targets in batches():
    optimizer.zero_grad()
    F.cross_entropy(decoder(encoder(inputs[:, None])[0][:, 0]), targets).backward()
    optimizer.step()
done(encoder, decoder)
""",
    "two models under two": """
encoder, decoder = nn.GRU(12, 16, batch_first=True), nn.Linear(16, 4)
optimizers = [torch.optim.Adam(each.parameters(), lr=1e-2) for each in (encoder, decoder)]
for inputs, targets in batches():
    for each in optimizers:
        each.zero_grad()
    F.cross_entropy(decoder(encoder(inputs[:, None])[0][:, 0]), targets).backward()
    for each in optimizers:
        each.step()
done(encoder, decoder)
""",
    "noise between calls": """
model, criterion = network(8), nn.TripletMarginLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for inputs, _ in batches():
    optimizer.zero_grad()
    near = model(inputs + 0.1 * torch.randn_like(inputs))
    criterion(model(inputs), near, model(inputs.flip(0))).backward()
    optimizer.step()
done(model)
""",
    "written into": """
model = nn.GRUCell(12, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for inputs, targets in batches():
    state, outputs, loss = torch.zeros(len(inputs), 4), torch.zeros(3, len(inputs), 4), 0
    for t in range(3):
        state = model(inputs, state)
        outputs[t] = state
    for t in range(3):
        loss += F.cross_entropy(outputs[t], targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
done(model)
""",
    "the loss in the model": """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, inputs, targets=None):
        logits = self.inner(inputs)
        return {"logits": logits, "loss": F.cross_entropy(logits, targets)}

model = Model()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for inputs, targets in batches():
    decay = 1e-4 * sum(each.pow(2).sum() for each in model.parameters())
    loss = model(**{"inputs": inputs, "targets": targets})["loss"] + decay
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
done(model)
""",
    "state that is carried": """
model = nn.GRU(12, 4, batch_first=True)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
state = torch.zeros(1, 32, 4)
for inputs, targets in batches():
    outputs, state = model(inputs[:, None], state.detach())
    optimizer.zero_grad()
    F.cross_entropy(outputs[:, 0], targets).backward()
    optimizer.step()
done(model)
""",
    "closures": """
model = network()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
for inputs, targets in batches(4):
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss
    optimizer.step(closure)
done(model)
""",
    "built twice": """
for rate in (1e-2, 1e-1):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for inputs, targets in batches(4):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    done(model)
""",
    "compiled": """
model = network()
compiled = torch.compile(model, backend="eager")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for inputs, targets in batches():
    optimizer.zero_grad()
    F.cross_entropy(compiled(inputs), targets).backward()
    optimizer.step()
done(model)
""",
}

UNREAD = {
    "counted": (
        "computed anew",
        """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.calls = network(), 0

    def forward(self, inputs):
        self.calls += 1
        return self.inner(inputs) * self.calls

model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for inputs, targets in batches():
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
done(model)
""",
    ),
    "a function of its own": (
        "asks for a gradient and is not a parameter",
        """
class Double(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return 2 * value

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient

model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for inputs, targets in batches():
    optimizer.zero_grad()
    F.cross_entropy(Double.apply(model(inputs)), targets).backward()
    optimizer.step()
done(model)
""",
    ),
    "against each other": (
        "several backward passes",
        """
maker, judge = network(12), network(1)
first, second = torch.optim.Adam(maker.parameters(), lr=1e-3), torch.optim.Adam(judge.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()
for real, _ in batches():
    judge.zero_grad()
    criterion(judge(real), torch.ones(32, 1)).backward()
    made = maker(torch.randn(32, 12))
    criterion(judge(made.detach()), torch.zeros(32, 1)).backward()
    second.step()
    maker.zero_grad()
    criterion(judge(made), torch.ones(32, 1)).backward()
    first.step()
done(maker, judge)
""",
    ),
    "a compiled function": (
        "compiles a function",
        """
model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

@torch.compile(backend="eager")
def criterion(output, targets):
    return F.cross_entropy(output, targets)

for inputs, targets in batches():
    optimizer.zero_grad()
    criterion(model(inputs), targets).backward()
    optimizer.step()
done(model)
""",
    ),
}


def watched_and_not(tmp_path, capfd, loop):
    path = tmp_path / "train.py"
    path.write_text(HEAD + loop)
    runpy.run_path(str(path), run_name="__main__")
    plain = capfd.readouterr().out
    watched = run_script(str(path), [])
    told = capfd.readouterr()
    assert not watched.failed, told.err
    return plain, told.out, watched


@pytest.mark.parametrize("name", LOOPS)
def test_numbers_stay_and_the_loss_is_read(tmp_path, capfd, name):
    plain, out, watched = watched_and_not(tmp_path, capfd, LOOPS[name])
    assert out == plain != ""
    assert watched.seen
    assert all("to the bit" in each.how for each in watched.seen), str(watched)
    assert watched.findings == []
    assert not any("of the script" in each for each in watched.errors), watched.errors


@pytest.mark.parametrize("name", UNREAD)
def test_a_loss_that_cannot_be_read_is_said_not_to_be_known(tmp_path, capfd, name):
    why, loop = UNREAD[name]
    plain, out, watched = watched_and_not(tmp_path, capfd, loop)
    assert out == plain != ""
    assert any(why in each.how for each in watched.seen), str(watched)
    assert watched.findings == []


def test_a_doctor_that_fails_itself_disturbs_nothing_and_is_counted(tmp_path, capfd, monkeypatch):
    def fail(self, update):
        raise RuntimeError("no room")

    monkeypatch.setattr(History, "add", fail)
    plain, out, watched = watched_and_not(tmp_path, capfd, LOOPS["accumulated"])
    assert out == plain
    assert "checks of the doctor failed themselves; the first: " in str(watched)
    assert "no room" in str(watched)


def test_a_model_that_is_saved_whole_knows_nothing_of_the_doctor(tmp_path, capfd):
    file = tmp_path / "model.pt"
    loop = LOOPS["accumulated"] + f"\ntorch.save(model, {str(file)!r})"
    plain, out, _ = watched_and_not(tmp_path, capfd, loop)
    assert out == plain
    assert b"steepest" not in file.read_bytes()
