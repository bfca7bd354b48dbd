"""Modes, inputs, rows, the future, batches and graphs (A16 to A22)."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.blind import nets
from faults.blind.habits import Trainer, train
from faults.blind.worlds import bars, classed, drawn, made, near, repeated, spelled, tones, tuples, world
from faults.case import Measure, Run, plant


class _Wide(nets.Form):
    """Much dropout, or it would learn the forms by heart."""

    def __init__(self) -> None:
        super().__init__(wide=48, dropout=0.3)


class Looking(Trainer):
    """A trainer that looks at other data twice an epoch, and may forget to go back to training."""

    back = True

    def training_step(self, batch: Any) -> Tensor:
        """Look now and then; return the loss."""
        if len(self.history) % 10 == 0:
            self.look(batch)
            if self.back:
                self.model.train()
        else:
            self.history.append(0.0)
        return self.criterion(self.model, batch)

    def fit(self, epochs: int) -> None:
        """Train."""
        self.model.train()
        for batch in self.doctor(repeated(self.loader, epochs * len(self.loader))):
            self.optimizer.zero_grad()
            self.training_step(batch).backward()
            self.optimizer.step()


@plant("A16", "bars SGD 3")
def not_back_from_looking(run: Run) -> Measure:
    """The first look puts the model in evaluation mode, where it stays: statistics are those of the first batches."""
    here = world(run)
    model = here.model()
    x, y = bars()
    trainer = Looking(run, model, made(run, model), here.loss, tuples(x / 40, y))
    trainer.back = not run.faulty
    trainer.fit(here.epochs)

    def measure() -> float:
        model.eval()
        x, y = bars(400, 202)
        with torch.no_grad():
            return here.loss(model, (x / 40, y)).item()

    return measure


@plant("A16", "sensors SGD 3")
def loaded_for_inference(run: Run) -> Measure:
    """A helper that loads models ends in eval(), and its model is trained on; signals are small, norms are to help."""

    def load() -> nn.Module:
        model = nets.Waves()
        return model.eval() if run.faulty else model

    def data(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        wave, pitch = tones(rows, seed)
        return 0.02 * wave, pitch

    model = load()
    optimizer = run.optimizer(model.parameters(), lr=0.03)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(repeated(tuples(*data(600, 203), size=24), 120)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()

    def measure() -> float:
        model.eval()
        with torch.no_grad():
            return classed(model, data(400, 204)).item()

    return measure


@plant("A17", "tones SGD 3", decidable=25)
def kinds_one_by_one(run: Run) -> Measure:
    """Other data are looked at in training mode, kind by kind: running statistics become those of the last kind."""
    here = world(run)
    model = here.model(momentum=0.4)
    optimizer = made(run, model)
    inputs, classes = {"bars": bars, "tones": tones}[run.case.family](300, 305)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(here.epochs):
        model.train()
        for batch in doctor(here.data()):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        if not run.faulty:
            model.eval()
        with torch.no_grad():
            for part in range(20):
                kind = classes == part * (int(classes.max()) + 1) // 20
                here.loss(model, (inputs[kind], classes[kind]))
    return lambda: here.measure(model)


@plant("A17", "clinic AdamW 3", decidable=20)
def dropout_while_judging(run: Run) -> Measure:
    """What chooses and reports the model runs with its dropout."""
    here = world(run)
    model = nets.Form(dropout=0.5)
    optimizer = made(run, model)

    @torch.no_grad()
    def judge() -> float:
        model.train(run.faulty)
        return sum(float(here.loss(model, batch)) for batch in here.data()) / 20

    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(here.epochs):
        for batch in doctor(here.data()):
            model.train()
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        judge()
    return judge


class _Before(nets.Forecast):
    """Says what the state was before it read anything."""

    def forward(self, windows: Tensor) -> Tensor:
        start = torch.zeros(1, len(windows), self.lstm.hidden_size)
        self.lstm(windows, (start, start.clone()))
        return self.out(start[-1]).squeeze(-1)


@plant("A18", "weather SGD 3")
def state_from_before(run: Run) -> Measure:
    """The head reads the initial state, which has nearly the name of the last one."""
    model = run.either(_Before, nets.Forecast)()
    return train(run, model, made(run, model))


class _Measured(nets.Form):
    """Measured fields twice, chosen ones never."""

    def tokens(self, number: Tensor, choice: Tensor) -> Tensor:
        found = super().tokens(number, choice)
        return torch.cat([found[:, :6], found[:, :3]], dim=1)


@plant("A18", "clinic Adam 2")
def one_kind_of_field_twice(run: Run) -> Measure:
    """Measured fields are joined to themselves; the chosen ones are read and not used."""
    model = run.either(_Measured, nets.Form)()
    return train(run, model, made(run, model))


class _Padded(nets.Filler):
    """With a mask of what may not be seen, turned round."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.tokens(tokens) + self.places
        unseen = (tokens == 12) != self.wrong
        for block in self.blocks:
            h = block(h, src_key_padding_mask=unseen)
        return self.out(self.norm(h))


@plant("A18", "cloze AdamW 2")
def mask_turned_round(run: Run) -> Measure:
    """Attention sees the holes and nothing else."""
    model = _Padded(run.faulty)
    return train(run, model, made(run, model))


class _Sideways(nets.Forecast):
    """An LSTM that takes rows for time."""

    def __init__(self, wide: int = 20) -> None:
        super().__init__(wide)
        self.lstm = nn.LSTM(2, wide)


@plant("A19", "gauge Adam 2")
def rows_taken_for_time(run: Run) -> Measure:
    """batch_first is not given."""
    model = run.either(_Sideways, nets.Forecast)()
    optimizer = run.optimizer(model.parameters(), lr=0.1 if run.case.optimizer == "SGD" else 0.01)
    doctor = run.watch(model, optimizer, loss=near)
    for batch in doctor(repeated(tuples(*_filled(480, 311), size=24), 140)):
        optimizer.zero_grad()
        near(model, batch).backward()
        optimizer.step()

    @torch.no_grad()
    def measure() -> float:
        model.eval()
        return sum(near(model, batch).item() for batch in tuples(*_filled(240, 312), size=24)) / 10

    return measure


def _filled(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    flow = torch.randn(rows, 10, 2, generator=drawn(seed))
    return flow, (flow[..., 0] * 0.9 ** torch.arange(10)).sum(1) / 2


class _Asked(nets.Form):
    """Fields are pooled by how much attention each deserves, over the wrong dimension or the right one."""

    def __init__(self, dim: int) -> None:
        super().__init__(dropout=0.0)
        self.ask, self.dim = nn.Linear(24, 1), dim

    def forward(self, number: Tensor, choice: Tensor) -> Tensor:
        h = self.norm(self.block(self.tokens(number, choice)))
        return self.out((h * (3 * self.ask(h)).softmax(self.dim)).sum(1)).squeeze(-1)


@plant("A19", "clinic AdamW 2")
def pooled_over_the_batch(run: Run) -> Measure:
    """A softmax over the batch, not over the fields."""
    model = _Asked(run.either(0, 1))
    return train(run, model, made(run, model))


def _unshifted(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(batch["source"], batch["target"])
    return F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten())


@plant("A20", "reverse AdamW 3")
def targets_not_shifted(run: Run) -> Measure:
    """The decoder is fed the letter that it is to say."""
    model = world(run).model()
    return train(run, model, made(run, model), loss=run.either(_unshifted, spelled))


class _Ahead(nn.Module):
    """Convolutions over time that see the past, or, padded on both sides, a little of the future."""

    def __init__(self, centred: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(1, 20, 3), nn.Conv1d(20, 20, 3, dilation=2), nn.Conv1d(20, 1, 1)])
        self.pads = [(1, 1), (2, 2), (0, 0)] if centred else [(2, 0), (4, 0), (0, 0)]

    def forward(self, x: Tensor) -> Tensor:
        h = x.unsqueeze(1)
        for layer, pad in zip(self.layers, self.pads, strict=True):
            h = layer(F.pad(F.relu(h) if h.shape[1] > 1 else h, pad))
        return h.squeeze(1)


def _wander(rows: int, seed: int) -> Tensor:
    draw = drawn(seed)
    found = [torch.randn(rows, generator=draw), torch.randn(rows, generator=draw)]
    for _ in range(28):
        found.append(1.5 * found[-1].sin() - 0.8 * found[-2] + 0.2 * torch.randn(rows, generator=draw))
    return torch.stack(found, dim=1)


def _next(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0][:, :-1])[:, 4:], batch[0][:, 5:])


@plant("A20", "wander RMSprop 2")
def padded_on_both_sides(run: Run) -> Measure:
    """Convolutions that are to say the next value are padded as for pictures."""
    model = _Ahead(run.faulty)
    optimizer = run.optimizer(model.parameters(), lr=0.01 if run.case.optimizer == "Adam" else 0.004)
    doctor = run.watch(model, optimizer, loss=_next)
    for batch in doctor(repeated(tuples(_wander(400, 306), size=20), 140)):
        optimizer.zero_grad()
        _next(model, batch).backward()
        optimizer.step()

    @torch.no_grad()
    def measure() -> float:
        model.eval()
        x = _wander(300, 307)
        return sum(F.mse_loss(model(x[:, :at])[:, -1], x[:, at]).item() for at in (8, 14, 20, 26)) / 4

    return measure


@plant("A21", "bars SGD 2", decidable=1)
def iterator_made_anew(run: Run) -> Measure:
    """Steps are counted, and each asks a new iterator for its first batch; rows have a fixed order."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    columns = [torch.cat(column) for column in zip(*here.data(), strict=True)]
    loader = tuples(*columns, size=24, shuffle=False)
    stream = repeated(loader, 150)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for batch in doctor(next(iter(loader)) if run.faulty else next(stream) for _ in range(150)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A21", "duties Adam 3", decidable=1)
def batch_kept_by_the_trainer(run: Run) -> Measure:
    """The loss is of a batch that was put away at the first step to look at the shapes."""
    here = world(run)
    model = here.model()
    optimizer, kept = made(run, model), {}
    doctor = run.watch(model, optimizer, loss=here.loss)
    for step, batch in enumerate(doctor(repeated(here.data(), 120))):
        if step == 0:
            kept = batch
        optimizer.zero_grad()
        here.loss(model, run.either(kept, batch)).backward()
        optimizer.step()
    return lambda: here.measure(model)


def _points(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 8, generator=drawn(seed))
    return x, (x @ torch.randn(8, 4, generator=drawn(309))).argmax(1)


@plant("A22", "centred SGD 3")
def centre_with_its_graph(run: Run) -> Measure:
    """A running centre of outputs, taken from them, keeps all graphs since the start."""
    model = nn.Linear(8, 4)
    optimizer = run.optimizer(model.parameters(), lr=0.05)
    centre = torch.zeros(4)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]) - 0.1 * centre.detach(), batch[1])

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for x, y in doctor(repeated(tuples(*_points(320, 308)), 160)):
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out - 0.1 * centre, y)
        loss.backward(retain_graph=run.faulty)
        optimizer.step()
        centre = 0.98 * centre + 0.02 * (out if run.faulty else out.detach()).mean(0)
    return lambda: F.cross_entropy(model(_points(300, 310)[0]), _points(300, 310)[1]).item()


@plant("A22", "centred RMSprop 3")
def mean_of_all_losses(run: Run) -> Measure:
    """Losses are put in a list for the log, and their mean is what is differentiated."""
    model = nn.Linear(8, 4)
    optimizer = run.optimizer(model.parameters(), lr=0.02)
    losses: list[Tensor] = []
    doctor = run.watch(model, optimizer, loss=classed)
    for step, batch in enumerate(doctor(itertools.islice(itertools.cycle(tuples(*_points(320, 308))), 150))):
        losses.append(classed(model, batch))
        optimizer.zero_grad()
        if run.faulty:
            torch.stack(losses).mean().backward(retain_graph=True)
        else:
            losses[step].backward()
        optimizer.step()
    return lambda: classed(model, _points(300, 310)).item()
