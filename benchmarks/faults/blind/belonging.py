"""What the optimizer holds and what gradients reach (A04 to A07)."""

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from faults.blind import nets
from faults.blind.habits import train
from faults.blind.worlds import both, made, repeated, world
from faults.case import Measure, Run, plant


class _ByDuty(nn.Module):
    """Heads by duty, in a plain dict or in one that is known to the module."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 6), nn.GELU())
        heads = {
            "kind": nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 4)),
            "amount": nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1)),
        }
        self.heads = heads if plain else nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.heads["kind"](h), self.heads["amount"](h).squeeze(-1)


@plant("A04", "duties Adam 3")
def heads_in_a_dict(run: Run) -> Measure:
    """Heads are kept in a dict of Python's, so that parameters() does not name them."""
    model = _ByDuty(run.faulty)
    return train(run, model, made(run, model))


@plant("A04", "cloze AdamW 2", "weather RMSprop 3")
def chosen_by_name(run: Run) -> Measure:
    """Parameters are chosen by a word in their names, which misses some."""
    model = world(run).model()
    missed = {"cloze": "blocks", "weather": "lstm"}[run.case.family]
    chosen = [each for name, each in model.named_parameters() if not (run.faulty and missed in name)]
    return train(run, model, made(run, chosen))


@plant("A04", "spiral SGD 2", onset=60)
def thawed_and_forgotten(run: Run) -> Measure:
    """The trunk is thawed after sixty batches, but the optimizer was made of what was not frozen then."""
    here = world(run)
    model = here.model()
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    optimizer = made(run, [each for each in model.parameters() if each.requires_grad])
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 160))):
        if step == 60:
            thawed = [each for each in model.parameters() if not each.requires_grad]
            model.requires_grad_(True)
            if not run.faulty:
                optimizer.add_param_group({"params": thawed})
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A05", "cloze AdamW 3")
def loaded_by_assignment(run: Run) -> Measure:
    """A start from a file: the tensors of the file take the place of those that the optimizer knows."""
    model = world(run).model()
    file = io.BytesIO()
    torch.save(world(run).model().state_dict(), file)
    file.seek(0)
    optimizer = made(run, model)
    model.load_state_dict(torch.load(file), assign=run.faulty)
    return train(run, model, optimizer)


@plant("A05", "tones Adam 2", also="A04")
def weights_reparametrised_later(run: Run) -> Measure:
    """Spectral norm is put on the convolutions after the optimizer was made, and the head is made anew."""
    model = world(run).model()

    def change() -> None:
        if isinstance(model, nets.Waves):
            model[4] = parametrizations.weight_norm(nn.Conv1d(12, 16, 5, padding=2))
            model[9] = nn.Linear(32, 5)
        else:
            model.into = nn.Conv1d(1, 8, 5, padding=2)
            model.out = nn.Conv1d(16, 1, 3, padding=1)
            model.deep = parametrizations.weight_norm(model.deep)

    if not run.faulty:
        change()
    optimizer = made(run, model)
    if run.faulty:
        change()
    return train(run, model, optimizer)


@plant("A05", "lifetimes Adam 2", onset=40)
def best_one_so_far(run: Run) -> Measure:
    """After forty batches the best weights so far are put back, as new Parameters."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    best = copy.deepcopy(model.state_dict())
    for step, batch in enumerate(doctor(repeated(here.data(), 160))):
        if step == 40:
            model.load_state_dict(best, assign=run.faulty)
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        if step == 20:
            best = copy.deepcopy(model.state_dict())
    return lambda: here.measure(model)


class _Quiet(nets.Speller):
    """The reader is under no_grad, as it was while it was not trained."""

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        with torch.no_grad():
            _, state = self.encoder(self.letters(source))
        return self.out(self.decoder(self.letters(before), state)[0])


@plant("A06", "reverse Adam 2", also="A07")
def reader_without_gradients(run: Run) -> Measure:
    """The encoder still runs under no_grad."""
    model = run.either(_Quiet, nets.Speller)(wide=14)
    return train(run, model, made(run, model))


@plant("A06", "bars Adam 2")
def all_convolutions_frozen(run: Run) -> Measure:
    """All but norms and head are frozen; nothing was learned before."""
    model = world(run).model()
    for part in model.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d)):
            part.requires_grad_(not run.faulty)
            nn.init.normal_(part.weight, std=0.15)
    return train(run, model, made(run, model))


@plant("A06", "counts Adam 2", onset=30)
def frozen_for_a_look(run: Run) -> Measure:
    """A look at the inputs' gradients after thirty batches freezes most of the model and does not thaw it."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 150))):
        if step == 30:
            parts = [part for part in model.children() if isinstance(part, (nn.Linear, nn.Sequential))]
            for part in parts[:-1]:
                part.requires_grad_(False)
            _saliency(here, model, batch)
            for part in parts[:-1]:
                part.requires_grad_(not run.faulty)
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


def _saliency(here: Any, model: nn.Module, batch: Any) -> Tensor:
    x = (batch["x"] if isinstance(batch, dict) else batch[0]).clone().requires_grad_()
    seen = {**batch, "x": x} if isinstance(batch, dict) else (x, *batch[1:])
    return torch.autograd.grad(here.loss(model, seen), x)[0].abs().mean()


class _Through(nets.Flow):
    """The lift goes through numpy."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.from_numpy(torch.tanh(2 * self.lift(x)).detach().numpy())
        for layer in self.field[:-1]:
            h = torch.tensor((h + self.pace * torch.tanh(layer(h))).tolist())
        return self.head(h + self.pace * torch.tanh(self.field[-1](h)))


@plant("A07", "spiral Adam 3")
def through_numpy(run: Run) -> Measure:
    """Hidden values are made tensors anew on their way."""
    model = run.either(_Through, nets.Flow)(wide=12)
    return train(run, model, made(run, model))


class _Kept(nets.Form):
    """Tokens are computed once and kept as data."""

    def tokens(self, number: Tensor, choice: Tensor) -> Tensor:
        return super().tokens(number, choice).data


@plant("A07", "clinic AdamW 2")
def data_of_the_tokens(run: Run) -> Measure:
    """Embeddings go on as .data."""
    model = run.either(_Kept, nets.Form)(wide=8)
    return train(run, model, made(run, model))


@plant("A07", "duties SGD 3")
def item_of_one_duty(run: Run) -> Measure:
    """Losses are added up for the log with .item(), and the sum is what is differentiated."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        kind, amount = model(batch["x"])
        second = F.mse_loss(amount, batch["amount"])
        return F.cross_entropy(kind, batch["kind"]) + (second.item() if run.faulty else second)

    model = world(run).model()
    made_by = made(run, model)
    return train(run, model, made_by, loss=loss_fn if run.faulty else both)
