"""How networks begin, and what comes of it (C01 to C06, C09)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets
from faults.second.batches import stream
from faults.second.loops import train
from faults.second.worlds import made, world


@plant("C01", "regimes Adam 3", "regimes SGD 2")
def one_expert_four_times(run: Run) -> Measure:
    """Experts are copies of one that was there, under a gate of zeros: they stay the same for ever."""
    model = nets.Experts(wide=4)
    if run.faulty:
        for expert in model.experts[1:]:
            expert.load_state_dict(model.experts[0].state_dict())
        nn.init.zeros_(model.gate[2].weight)
        nn.init.zeros_(model.gate[2].bias)
    return train(run, model)


class Adapted(nn.Module):
    """A layer that stays, and two thin matrices beside it."""

    def __init__(self, layer: nn.Linear, rank: int = 6) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.thin_a = nn.Parameter(torch.randn(layer.in_features, rank) / layer.in_features**0.5)
        self.thin_b = nn.Parameter(torch.zeros(rank, layer.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer says, and what is added to it."""
        return self.layer(x) + x @ self.thin_a @ self.thin_b


def adapted(run: Run) -> nn.Module:
    """Return the world's perceptron with adapters, trained before on targets of another kind."""
    model = world(run).model()
    early = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, time, seen in stream(world(run).data(), 60):
        early.zero_grad()
        world(run).loss(model, (x.roll(1, 1), time, seen)).backward()
        early.step()
    model[0], model[2] = Adapted(model[0]), Adapted(model[2])
    model[4].requires_grad_(False)
    return model


@plant("C01", "patients AdamW 3")
def both_thin_ones_zero(run: Run) -> Measure:
    """Both factors of an adapter begin at zero, so neither has a gradient."""
    model = adapted(run)
    if run.faulty:
        for each in (model[0], model[2]):
            nn.init.zeros_(each.thin_a)
    return train(run, model, made(run, [each for each in model.parameters() if each.requires_grad], 2.0))


class _Tied(nn.Module):
    """Letters in and out by one table: reads five letters, says them in order."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.letters = nn.Embedding(9, 48)
        self.net = nn.Sequential(nn.Linear(5 * 48 + 48, 64), nn.ReLU(), nn.Linear(64, 5 * 48))
        nn.init.normal_(self.letters.weight, std=spread)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        x = torch.cat([self.letters(source).flatten(1), self.letters(before[:, 0])], dim=1)
        return self.net(x).view(len(x), 5, 48) @ self.letters.weight[:8].T


@plant("C02", "hands Adam 2")
def table_tied_to_the_output(run: Run) -> Measure:
    """A table of letters as the library begins it, used for the output too: the first logits are enormous."""
    return train(run, _Tied(run.either(run.pick(2.0, 4.0, 8.0), 0.15)))


@plant("C02", "islands SGD 3")
def every_layer_ten_times(run: Run) -> Measure:
    """Weights of all layers begin several times too large."""
    model = world(run).model()
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(run.either(6.0, 1.0))
    return train(run, model)


@plant("C03", "picture SGD 2")
def sines_begun_as_for_relu(run: Run) -> Measure:
    """Layers under sines begin so small that their sines are straight lines."""
    model = world(run).model()
    if run.faulty:
        for each in model:
            if isinstance(each, nets.Sine):
                each.pace = 1.0
                nn.init.normal_(each.layer.weight, std=run.pick(0.05, 0.05, 0.02))
    return train(run, model)


class _Deep(nn.Module):
    """Twelve convolutions with tanh, one upon the other, or each beside its input."""

    def __init__(self, beside: bool) -> None:
        super().__init__()
        self.begin, self.head, self.beside = nn.Conv1d(1, 10, 1), nn.Conv1d(10, 1, 1), beside
        self.layers = nn.ModuleList(nn.Conv1d(10, 10, 2) for _ in range(12))
        for each in self.layers:
            nn.init.normal_(each.weight, std=0.1)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.begin(wave.unsqueeze(1))
        for layer in self.layers:
            more = layer(F.pad(x, (1, 0))).tanh()
            x = x + more if self.beside else more
        return self.head(x).squeeze(1)


@plant("C03", "whistles AdamW 2")
def no_way_around(run: Run) -> Measure:
    """Twelve layers of tanh, and what was to go around them is missing."""
    model = _Deep(not run.faulty)
    return train(run, model, made(run, model, 0.3))


class _Summed(nets.Messages):
    """Sums over neighbours, eight times; normed: each is brought to size."""

    def __init__(self, normed: bool) -> None:
        super().__init__(depth=7)
        self.norm = nn.LayerNorm(24) if normed else nn.Identity()

    def forward(self, kind: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        x = self.kinds(kind)
        for layer in self.tell:
            heard = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            x = x + self.norm(torch.relu(layer(torch.cat([x, heard], dim=1))) + heard)
        return torch.zeros(int(owner.max()) + 1, 1).index_add(0, owner, self.head(x))


@plant("C04", "molecules Adam 3")
def sums_upon_sums(run: Run) -> Measure:
    """Sums over neighbours grow with each of seven layers; the twin norms them."""
    model = _Summed(not run.faulty)
    return train(run, model)


class _Recurrent(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.cell, self.head = nn.RNN(1, 24, batch_first=True), nn.Linear(24, 1)
        nn.init.orthogonal_(self.cell.weight_hh_l0, gain=gain)

    def forward(self, wave: Tensor) -> Tensor:
        return self.head(self.cell(wave.unsqueeze(-1))[0]).squeeze(-1)


@plant("C04", "whistles SGD 3")
def chaos_in_time(run: Run) -> Measure:
    """Recurrent weights begin far above 1: what was heard is torn apart on its way."""
    model = _Recurrent(run.either(6.0, 0.9))
    return train(run, model, made(run, model, 1.5))


@plant("C05", "glyphs AdamW 3")
def biases_left_from_a_sparse_net(run: Run) -> Measure:
    """Biases of convolutions begin far below zero, so that nearly no unit speaks."""
    model = nets.Signs()
    model.features[1] = model.features[5] = nn.Identity()
    if run.faulty:
        nn.init.constant_(model.features[4].bias, run.pick(-3.0, -8.0, -12.0))
        nn.init.constant_(model.features[0].bias, -1.5)
    return train(run, model, made(run, model, 0.7), steps=150)


@plant("C05", "sales SGD 2", onset=30, also="D01")
def rate_tried_out(run: Run) -> Measure:
    """At batch 30 a leftover of a search for the rate takes one enormous step, after which units are dead."""
    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(here.data(), here.steps))):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.param_groups[0]["lr"] = here.rate("SGD") * (1000 if at == 30 and run.faulty else 1)
        optimizer.step()
    return lambda: here.measure(model)


@plant("C06", "essays Adam 2")
def ends_of_the_tanh(run: Run) -> Measure:
    """Weights before a tanh begin with the spread of the library's normal distribution, times three."""
    model = world(run).model()
    if run.faulty:
        for place in (0, 2):
            nn.init.normal_(model.merit[place].weight, std=run.pick(1.5, 6.0, 5.0))
    return train(run, model)


class _Gated(nets.Experts):
    def shares(self, x: Tensor) -> Tensor:
        """Return shares of all or nothing."""
        return (80 * self.gate(x)).softmax(-1)


@plant("C06", "regimes AdamW 3")
def gate_without_doubt(run: Run) -> Measure:
    """The gate's logits are divided by a temperature of next to nothing."""
    return train(run, run.either(_Gated, nets.Experts)(wide=4))


@plant("C09", "cards SGD 1")
def times_the_root(run: Run) -> Measure:
    """Attention logits are multiplied by the root of the width, where they should be divided by it."""
    model = world(run).model()
    if run.faulty:
        model.scale = run.pick(5.0, 60.0, 24.0) * model.scale * 24**0.5
    return train(run, model)
