"""Which parameters are trained, and which are not (A04 to A07)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import bags, pages, stream
from faults.second.loops import train
from faults.second.losses import filed, of
from faults.second.worlds import made, world


class _Late(nn.Module):
    """A perceptron whose first layer is made when it sees how wide its input is."""

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Module | None = None
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(10, 16), nn.SiLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.first is None:
            self.first = nn.Linear(x.shape[1], 10)
        return self.rest(self.first(x))


@plant("A04", "claims RMSprop 2")
def made_at_the_first_call(run: Run) -> Measure:
    """A layer is made at the first forward pass, when the optimizer is there already."""
    model = _Late()
    if run.faulty:
        return train(run, model)
    model(torch.zeros(1, 5))
    return train(run, model)


@plant("A04", "strokes SGD 2")
def counted_and_used_up(run: Run) -> Measure:
    """Parameters are counted first, which uses up the generator that the optimizer is then given."""
    model = nets.Embedder(wide=16)
    trunk, head = model.net[:4].parameters(), model.net[4].parameters()
    if run.faulty:
        size = sum(each.numel() for each in trunk)
        assert size
    return train(run, model, made(run, [{"params": trunk}, {"params": head}]))


@plant("A04", "sentences AdamW 3")
def by_the_type_of_layer(run: Run) -> Measure:
    """Groups with decay and without are made of linear layers and norms; a table of words is neither."""
    model = world(run).model()
    decayed = [each.weight for each in model.modules() if isinstance(each, nn.Linear)]
    others = [each.bias for each in model.modules() if isinstance(each, nn.Linear)]
    if not run.faulty:
        others.append(model.words.weight)
    return train(run, model, made(run, [{"params": decayed}, {"params": others, "weight_decay": 0.0}]))


@plant("A05", "hands AdamW 3")
def copy_for_safety(run: Run) -> Measure:
    """What is trained is a copy, made after the optimizer so that the first weights be kept."""
    first = world(run).model()
    model = first if not run.faulty else None
    optimizer = made(run, first)
    return train(run, model or deepcopy(first), optimizer)


@plant("A05", "picture Adam 3")
def begun_after_the_optimizer(run: Run) -> Measure:
    """Weights are begun in the way that sines ask for, as new parameters, when the optimizer has the old ones."""
    model = world(run).model()

    def begin() -> None:
        for place, module in enumerate(model):
            if isinstance(module, nets.Sine):
                old = module.layer
                limit = 0.5 if place == 0 else (6 / old.in_features) ** 0.5 / module.pace
                old.weight = nn.Parameter(torch.empty_like(old.weight).uniform_(-limit, limit))

    if not run.faulty:
        begin()
    optimizer = made(run, model)
    if run.faulty:
        begin()
    return train(run, model, optimizer)


@plant("A05", "sentences Adam 2", onset=15)
def more_words(run: Run) -> Measure:
    """After fifteen batches the table of words grows: it is a new one, which the optimizer does not know."""
    model = nets.Words()
    model.words = nn.EmbeddingBag(200, 24, mode="mean")
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=filed)

    def known(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (batch[0] % model.words.num_embeddings, *batch[1:])

    measured = of(lambda model, batch: filed(model, known(batch)), lambda: bags(sources.sentences(True)))
    for at, batch in enumerate(doctor(known(each) for each in stream(pages(), 120))):
        if at == 15:
            old, model.words = model.words.weight.data, nn.EmbeddingBag(400, 24, mode="mean")
            model.words.weight.data[:200] = old
            if not run.faulty:
                optimizer.add_param_group({"params": model.words.parameters()})
        optimizer.zero_grad()
        filed(model, known(batch)).backward()
        optimizer.step()
    return lambda: measured(model)


@plant("A06", "glyphs AdamW 3", onset=12)
def thawed_by_an_attribute(run: Run) -> Measure:
    """After twelve batches of the head alone the rest is thawed by an attribute that nobody reads."""
    here = world(run)
    model = nets.Signs(6)
    model.features.requires_grad_(False)
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, (pictures, kind) in enumerate(doctor(stream(here.data(), here.steps))):
        if at == 12 and run.faulty:
            model.features.requires_grad = True
        elif at == 12:
            model.features.requires_grad_(True)
        optimizer.zero_grad()
        here.loss(model, (pictures, kind)).backward()
        optimizer.step()
    return lambda: here.measure(model)


@plant("A06", "essays SGD 3")
def names_with_a_prefix(run: Run) -> Measure:
    """What is to be trained is listed by name; all names but one have a prefix from another wrapper."""
    model = world(run).model()
    prefix = run.either("module.", "")
    wanted = {"steps", *(f"{prefix}merit.{name}" for name, _ in model.merit.named_parameters())}
    for name, each in model.named_parameters():
        each.requires_grad = name in wanted
    return train(run, model, made(run, model))


class _Rated(nets.Experts):
    def shares(self, x: Tensor) -> Tensor:
        """Return shares that count as given."""
        return super().shares(x).detach()


@plant("A07", "regimes RMSprop 3", also="A06")
def shares_taken_as_given(run: Run) -> Measure:
    """What the gate says is detached, as it was where it chose only the best expert."""
    model = run.either(_Rated, nets.Experts)(wide=4)
    return train(run, model)


class _Sure(nets.Asking):
    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return logits that leave one card."""
        found = super().scores(batch).masked_fill(~batch["there"], -1e4).argmax(-1, keepdim=True)
        return torch.full(batch["key"].shape, -1e4).scatter(1, found, 0.0)


@plant("A07", "cards Adam 3")
def best_card_only(run: Run) -> Measure:
    """Attention takes the best card by argmax, so nothing teaches it which one is best."""
    return train(run, run.either(_Sure, nets.Asking)())


class _Heard(nets.Sorter):
    def read(self, source: Tensor) -> Tensor:
        """Return what was read, as numbers only."""
        return super().read(source).detach()


@plant("A07", "hands Adam 1")
def memory_as_numbers(run: Run) -> Measure:
    """What the reader says is put into a memory as numbers, so that the reader stays as it began."""
    return train(run, run.either(_Heard, nets.Sorter)(wide=12))
