"""Controls that look sick: losses, gradients and parameters that do what they should."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, healthy
from faults.second import nets, sources
from faults.second.batches import Dicts, molecules, pages, stream, tuples
from faults.second.begins import adapted
from faults.second.loops import train
from faults.second.losses import answered, classed, continued, of, three
from faults.second.pupils import Lesson, lesson
from faults.second.worlds import made, world


@healthy("sentences AdamW", "sentences SGD", scary=True)
def half_of_the_units(run: Run) -> Measure:
    """Dropout of a half: the loss in training is above the other."""
    return train(run, nets.Words(wide=32, dropout=0.5), steps=140)


@healthy("glyphs Adam", scary=True)
def smoothed(run: Run) -> Measure:
    """Labels are smoothed: the loss does not go below a floor."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.15)

    return train(run, loss=loss_fn)


class _Density(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.spread = nets.siren(), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@healthy("picture Adam", "picture RMSprop", scary=True)
def narrow_density(run: Run) -> Measure:
    """A density with a spread that is learned: its loss goes below zero and on."""

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        gap = (batch[1] - model(batch[0])) / model.spread.exp()
        return 0.5 * gap.square().mean() + model.spread.squeeze()

    model = _Density()
    return train(run, model, loss=loss_fn, measure=of(loss_fn, lambda: sources.picture(45)))


@healthy("patients AdamW", "patients SGD", scary=True)
def thin_ones_beside(run: Run) -> Measure:
    """A net that was trained before is kept; thin matrices beside its layers are trained, one of them from zero."""
    model = adapted(run)
    return train(run, model, made(run, [each for each in model.parameters() if each.requires_grad], 2.0))


@healthy("sales SGD", "patients SGD", scary=True)
def summed_on_purpose(run: Run) -> Measure:
    """A sum, at a rate for sums."""
    here = world(run)
    model = here.model()
    return train(run, model, made(run, model, 1 / 40), loss=lambda model, batch: 40 * here.loss(model, batch))


@healthy("cards Adam", scary=True)
def few_hands(run: Run) -> Measure:
    """Forty-eight hands are all there is, and are learned by heart."""
    rows = {name: column[:48] for name, column in sources.cards().items()}
    return train(run, data=Dicts(rows, size=16), steps=200, measure=of(answered, lambda: rows))


@healthy("molecules Adam", "molecules RMSprop", scary=True)
def small_ones_first(run: Run) -> Measure:
    """Small graphs first, all of them from batch 60 on: the loss jumps."""
    here = world(run)
    small = [each for each in sources.molecules() if len(each[0]) < 6]
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)

    def batches() -> Any:
        yield from stream(molecules(small), 60)
        yield from stream(molecules(), 120)

    for batch in doctor(batches()):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
    return lambda: here.measure(model)


class _Hard(nets.Experts):
    def shares(self, x: Tensor) -> Tensor:
        """Return one expert, with the slope of all."""
        soft = super().shares(x)
        return F.one_hot(soft.argmax(-1), 4) + soft - soft.detach()


@healthy("regimes Adam", "regimes Adagrad", scary=True)
def best_expert_straight_through(run: Run) -> Measure:
    """Only the best expert speaks, and the gate learns as if all did."""
    return train(run, _Hard())


@healthy("regimes AdamW", scary=True)
def balanced_experts(run: Run) -> Measure:
    """A second loss keeps all experts busy."""

    def loss_fn(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        share = model.shares(batch[0]).mean(0)
        return F.mse_loss(model(batch[0]), batch[1]) + 0.01 * (4 * share * share.log()).sum()

    return train(run, loss=loss_fn)


@healthy("clicks Adam", "clicks RMSprop", scary=True)
def rewards_as_they_come(run: Run) -> Measure:
    """A policy acts by chance, with a baseline and a bonus for doubt; its loss says nothing."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        policy = torch.distributions.Categorical(logits=model(batch["context"]))
        action = policy.sample()
        pay = sources.pay(batch["context"]).gather(1, action.unsqueeze(1)).squeeze(1)
        gain = pay - pay.mean()
        return -(gain * policy.log_prob(action)).mean() - 0.01 * policy.entropy().mean()

    return train(run, loss=loss_fn)


@healthy("clicks AdamW", scary=True)
def ratio_that_is_clipped(run: Run) -> Measure:
    """Chances relative to those of the log are clipped: many rows have no slope."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        chance = model(batch["context"]).softmax(-1).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
        ratio, gain = chance / batch["chance"], batch["reward"] - batch["reward"].mean()
        return -torch.minimum(ratio * gain, ratio.clamp(0.4, 2.5) * gain).mean()

    return train(run, loss=loss_fn)


class _Turned(torch.autograd.Function):
    """What passes is not changed; its slope is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        del ctx
        return -0.1 * slopes[0]


@healthy("visitors Adam", scary=True)
def page_not_to_be_told(run: Run) -> Measure:
    """The trunk is to hide half of the pages from a head that tries to tell them: slopes are turned on purpose."""

    def loss_fn(model: Any, batch: dict[str, Tensor]) -> Tensor:
        x = model.trunk(torch.cat([model.page(batch["page"]), batch["number"]], dim=1))
        told = {name: head(x) for name, head in model.heads.items()}
        guess = model.spy(_Turned.apply(x)).squeeze(1)
        hidden = F.binary_cross_entropy_with_logits(guess, (batch["page"] % 2).float())
        return three(told, batch).sum() + 0.3 * hidden

    model = nets.Shopper()
    model.spy = nn.Linear(32, 1)
    model.spread.requires_grad_(False)
    return train(run, model, made(run, [each for each in model.parameters() if each.requires_grad]), loss=loss_fn)


@healthy("glyphs SGD", "glyphs RMSprop", scary=True)
def teacher_that_never_moves(run: Run) -> Measure:
    """A pupil and its teacher in one module, and only the pupil in the optimizer."""
    model = Lesson()
    measure = world(run).measure
    return train(run, model, made(run, model.pupil), loss=lesson, manner="steps", measure=lambda m: measure(m.pupil))


@healthy("glyphs AdamW", scary=True)
def norms_as_they_were(run: Run) -> Measure:
    """A trained net is tuned on fainter pictures with its norms in evaluation mode."""
    model = nets.Signs(16)
    model.load_state_dict(Lesson().teacher.state_dict())
    model.eval()
    optimizer = made(run, model, 0.2)
    x, y = sources.glyphs()
    u, v = sources.glyphs(300, 471)
    doctor = run.watch(model, optimizer, loss=classed)
    for batch in doctor(stream(tuples(0.5 * x, y, size=24), 75)):
        optimizer.zero_grad()
        classed(model, batch).backward()
        optimizer.step()
    return lambda: of(classed, lambda: (0.5 * u, v))(model)


@healthy("glyphs SGD", scary=True)
def mixed_with_their_labels(run: Run) -> Measure:
    """Pictures and labels are mixed alike: the loss stays high."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        share, order = float(0.5 + 0.5 * torch.rand(())), torch.randperm(len(x))
        told = model(share * x + (1 - share) * x[order])
        return share * F.cross_entropy(told, y) + (1 - share) * F.cross_entropy(told, y[order])

    return train(run, loss=loss_fn, steps=150)


class _Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(400, 5, mode="mean", sparse=True)

    def forward(self, words: Tensor, starts: Tensor) -> Tensor:
        return self.words(words, starts)


@healthy("sentences SGD", "sentences Adagrad", scary=True)
def only_words_that_occur(run: Run) -> Measure:
    """A sparse table: words that are not in a batch have no gradient."""
    model = _Sparse()
    plain = torch.optim.SGD(model.parameters(), lr=10.0)
    optimizer = plain if run.case.optimizer == "SGD" else made(run, model, 4.0)
    return train(run, model, optimizer, steps=140)


@healthy("diabetes SGD", scary=True)
def patient_by_patient(run: Run) -> Measure:
    """A row at a time, with steps that are short enough for it."""
    model = world(run).model()
    optimizer = made(run, model, 0.04)
    return train(run, model, optimizer, data=tuples(*sources.diabetes(), size=1), steps=302)


@healthy("whistles Adam", scary=True)
def wave_after_wave_of_noise(run: Run) -> Measure:
    """Waves are hidden in noise that nobody can foretell: the loss has a high floor."""
    wave, other = (each + torch.randn_like(each) for each in (sources.whistles(), sources.whistles(200, 464)))
    return train(run, data=tuples(wave), measure=of(continued, lambda: (other,)))


@healthy("sentences Adam", scary=True)
def sorted_by_length(run: Run) -> Measure:
    """Lines of like length are put together, so that batches differ from each other."""
    lines = sorted(sources.sentences(), key=lambda each: len(each[0]))
    batches = [lines[at : at + 32] for at in range(0, len(lines), 32)]
    order = torch.randperm(len(batches)).tolist()
    return train(run, data=pages([line for at in order for line in batches[at]], shuffle=False), steps=120)


@healthy("claims RMSprop", scary=True)
def huge_numbers_of_claims(run: Run) -> Measure:
    """The constant part of the likelihood is kept, so that the loss is large and hardly seems to fall."""
    here = world(run)
    model = here.model()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return here.loss(model, batch) + torch.lgamma(batch[2] + 1).mean() + math.e**4

    return train(run, model, loss=loss_fn)
