"""Data that take a wrong way through model or loop (A18 to A21)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import cancer, conv, digits, encoder, gpt, recurrent, tabular
from faults.families.batches import Shuffled, endless, loader
from faults.families.scores import cross_entropy, squared
from faults.loops import fit


class Example(nn.Module):
    """A perceptron that was tried on an example first. stuck: it goes on reading the example's features."""

    def __init__(self, stuck: bool) -> None:
        super().__init__()
        self.net, self.stuck = digits.mlp(), stuck
        self.register_buffer("example", torch.zeros(1, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels -> logits."""
        return self.net(self.example.expand(len(x), -1) if self.stuck else x)


@plant("A18", "digits SGD 3", "digits Adam 3")
def wrong_variable(run: Run) -> Measure:
    """The forward pass reads a buffer, not its argument."""
    model = Example(run.faulty)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A18", "tabular Adam 3", "cancer SGD 3")
def masked_out(run: Run) -> Measure:
    """A mask for missing values is the wrong way round: where values are there, it puts zero."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        there = ~x.isfinite() if run.faulty else x.isfinite()
        return run.task.loss(model, (torch.where(there, x, 0.0), batch[1]))

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A18", "gpt AdamW 3")
def only_places(run: Run) -> Measure:
    """The embeddings of letters are worked out and not added."""

    class Blind(gpt.Gpt):
        def forward(self, text: Tensor) -> Tensor:
            letters = self.letters(text)
            x = self.places.weight[: text.shape[1]].expand_as(letters)
            x = x + 0 * letters if run.faulty else x + letters
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    model = Blind()
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A18", "recurrent RMSprop 3")
def zeros_read(run: Run) -> Measure:
    """A buffer of zeros made for the first state is what the layer reads."""

    class Reader(recurrent.Reader):
        def forward(self, waves: Tensor) -> Tensor:
            zeros = torch.zeros_like(waves)
            return self.head(self.layer(zeros if run.faulty else waves)[0][:, -1])

    model = Reader()
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A19", "encoder Adam 2", "encoder SGD 2")
def softmax_over_the_batch(run: Run) -> Measure:
    """A pooling softmax runs over the batch instead of the points."""

    class Pooled(encoder.Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.weigh = nn.Linear(32, 1)

        def forward(self, points: Tensor) -> Tensor:
            x = self.norm(self.blocks(self.begin(points)))
            weights = (3 * self.weigh(x)).softmax(0 if run.faulty else 1)
            return self.head((weights * x).sum(1) * (len(x) / 12 if run.faulty else 1))

    model = Pooled()
    fit(run, model, run.optimizer(model.parameters()))
    u, v = encoder.data(600, 9)
    return lambda: one_by_one(model, u[:200], v[:200])


@torch.no_grad()
def one_by_one(model: nn.Module, inputs: Tensor, classes: Tensor) -> float:
    """Return the error rate of a model that is asked for one row at a time."""
    model.eval()
    told = torch.cat([model(inputs[i : i + 1]) for i in range(len(inputs))])
    return (told.argmax(-1) != classes).float().mean().item()


@plant("A19", "recurrent Adam 3", "recurrent AdamW 3")
def batch_taken_for_time(run: Run) -> Measure:
    """The layer wants time first and gets rows first."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(1, 24, batch_first=not run.faulty)
            self.head = nn.Linear(24, recurrent.KINDS)

        def forward(self, waves: Tensor) -> Tensor:
            return self.head(self.layer(waves)[0][:, -1])

    model = Reader()
    fit(run, model, run.optimizer(model.parameters()))
    u, v = recurrent.data(600, 4)
    return lambda: one_by_one(model, u[:150], v[:150])


@plant("A19", "conv Adam 3")
def view_for_permute(run: Run) -> Measure:
    """Channels and rows of the batch are exchanged by view where permute was meant."""

    class Mixed(conv.Net):
        def features(self, x: Tensor) -> Tensor:
            x = torch.relu(self.norm1(self.first(x))).transpose(0, 1)
            shape = (x.shape[1], x.shape[0], *x.shape[2:])
            x = x.reshape(shape) if run.faulty else x.transpose(0, 1)
            x = F.max_pool2d(x, 2)
            return F.max_pool2d(torch.relu(self.norm2(self.second(x))), 2).flatten(1)

    model = Mixed()
    return fit(run, model, run.optimizer(model.parameters()))


class Shifted(gpt.Attention):
    """Attention whose mask is one place too late."""

    def hidden(self, long: int) -> Tensor:
        """Return which places a place may not see."""
        return torch.ones(long, long, dtype=torch.bool).triu(2)


@plant("A20", "gpt AdamW 3", "gpt RMSprop 3")
def no_mask(run: Run) -> Measure:
    """The causal mask is not there."""
    model = gpt.Gpt(causal=not run.faulty)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A20", "gpt Adam 3")
def mask_one_late(run: Run) -> Measure:
    """The mask lets the next letter through."""
    model = gpt.Gpt()
    for block in model.blocks:
        if run.faulty:
            block.mix.__class__ = Shifted
    return fit(run, model, run.optimizer(model.parameters()))


class Causal(nn.Module):
    """Letters to logits, by convolutions of width 3; leaking: padded on both sides."""

    def __init__(self, leaking: bool) -> None:
        super().__init__()
        self.pad = (1, 1) if leaking else (2, 0)
        self.letters, self.head = nn.Embedding(gpt.LETTERS, 32), nn.Linear(32, gpt.LETTERS)
        self.layers = nn.ModuleList(nn.Conv1d(32, 32, 3) for _ in range(2))

    def forward(self, text: Tensor) -> Tensor:
        """Text (rows, length) -> logits (rows, length, letters)."""
        x = self.letters(text).transpose(1, 2)
        for layer in self.layers:
            x = x + torch.relu(layer(F.pad(x, self.pad)))
        return self.head(x.transpose(1, 2))


@plant("A20", "gpt SGD 3")
def padded_on_both_sides(run: Run) -> Measure:
    """Convolutions over a text see one letter of what they are to say."""
    model = Causal(run.faulty)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A20", "recurrent Adam 3")
def both_directions(run: Run) -> Measure:
    """A series is forecast by a layer that reads it in both directions."""
    waves = recurrent.data()[0]
    model = nn.GRU(1, 16, batch_first=True, bidirectional=run.faulty)
    model.add_module("head", nn.Linear(32 if run.faulty else 16, 1))

    def loss_fn(model: Any, batch: tuple[Tensor]) -> Tensor:
        return F.mse_loss(model.head(model(batch[0][:, :-1])[0]), batch[0][:, 1:])

    def honest() -> float:
        with torch.no_grad():
            test = recurrent.data(600, 4)[0]
            told = [model.head(model(test[:, :at])[0])[:, -1] for at in (8, 11, 14, 17)]
            true = [test[:, at] for at in (8, 11, 14, 17)]
        return F.mse_loss(torch.stack(told), torch.stack(true)).item()

    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=Shuffled(waves), epochs=5)
    return honest


@plant("A21", "digits Adam 3", "cancer SGD 3")
def first_batch_again(run: Run) -> Measure:
    """The loop takes the first of a new iterator, over data that are not shuffled."""
    data = (digits if run.case.family == "digits" else cancer).data()[:2]
    model, loss_fn = run.task.model(), run.task.loss
    train = loader(*data, size=32, shuffle=False)
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    batches = iter(doctor(endless(train, 120)))
    for _ in range(120):
        for batch in doctor(train) if run.faulty else batches:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
            break
    return lambda: run.task.measure(model)


@plant("A21", "conv SGD 3", "tabular Adam 3")
def shadowed(run: Run) -> Measure:
    """The loss is worked out of a batch that was kept from a first try, not of the loop's."""
    model, train, loss_fn = run.task.model(), run.task.train(), run.task.loss
    optimizer = run.optimizer(model.parameters())
    example = next(iter(train))
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 100)):
        optimizer.zero_grad()
        loss = loss_fn(model, example if run.faulty else batch)
        loss.backward()
        optimizer.step()
    return lambda: run.task.measure(model)


class Cached(torch.utils.data.Dataset):
    """Rows that are read once. stuck: the cache has one key for all."""

    def __init__(self, x: Tensor, y: Tensor, stuck: bool) -> None:
        self.x, self.y, self.stuck = x, y, stuck
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        key = index % 16 if self.stuck else index
        if key not in self.cache:
            self.cache[key] = self.x[index], self.y[index]
        return self.cache[key]


@plant("A21", "recurrent Adam 3", also="B11")
def cache_of_few_keys(run: Run) -> Measure:
    """A data set's cache confuses keys, so that sixteen rows come again and again."""
    model = recurrent.Reader()
    train = torch.utils.data.DataLoader(Cached(*recurrent.data(), run.faulty), batch_size=32, shuffle=True)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("A21", "tabular SGD 3")
def one_index(run: Run) -> Measure:
    """The order of rows is drawn once, from a seed that is set again in each step."""
    x, y = tabular.data()
    model = tabular.mlp()
    optimizer = run.optimizer(model.parameters())

    def batches() -> Any:
        draw = torch.Generator().manual_seed(run.seed)
        for _ in range(180):
            if run.faulty:
                draw.manual_seed(run.seed)
            rows = torch.randint(len(x), (32,), generator=draw)
            yield x[rows], y[rows]

    doctor = run.watch(model, optimizer, loss=squared)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
    return lambda: tabular.error(model)


@plant("A18", "conv SGD 3")
def weights_of_zero(run: Run) -> Measure:
    """A gate that was to be one where a picture is bright is computed in whole numbers, and is zero."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        gate = ((x.amax((1, 2, 3)) > 0).long() // 2 * 2) if run.faulty else (x.amax((1, 2, 3)) > 0).long()
        return cross_entropy(model, (x * gate.view(-1, 1, 1, 1), y))

    model = conv.Net()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)
