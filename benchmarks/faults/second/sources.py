"""Made-up data of this part, and what the standard library and scikit-learn bring; the same in every run."""

import inspect
import logging
import re
import socket
import tarfile
import threading
import unittest
import zlib
from functools import cache
from types import ModuleType

import torch
from sklearn import datasets
from torch import Tensor
from torch.nn import functional as F

Columns = dict[str, Tensor]


def drawn(seed: int) -> torch.Generator:
    """Return a generator for data that are the same in every run."""
    return torch.Generator().manual_seed(seed)


@cache
def cards(rows: int = 1600, seed: int = 401) -> Columns:
    """Return hands of up to seven cards: key and face (rows, 7), there; the key that is asked for, and its face."""
    draw = drawn(seed)
    key = torch.rand(rows, 8, generator=draw).argsort(1)[:, :7]
    face = torch.randint(5, (rows, 7), generator=draw)
    there = torch.arange(7) < torch.randint(4, 8, (rows, 1), generator=draw)
    at = (torch.rand(rows, 7, generator=draw) * there).argmax(1, keepdim=True)
    return {
        "key": key, "face": face, "there": there,
        "ask": key.gather(1, at).squeeze(1), "answer": face.gather(1, at).squeeze(1),
    }  # fmt: skip


@cache
def cells(rows: int = 320, seed: int = 403) -> tuple[Tensor, Tensor]:
    """Return noisy pictures (rows, 1, 16, 16) of two discs and a streak, and masks of the discs."""
    draw = drawn(seed)
    down, across = torch.arange(16.0).view(1, 16, 1), torch.arange(16.0).view(1, 1, 16)
    mask = torch.zeros(rows, 16, 16, dtype=torch.bool)
    for _ in range(2):
        y, x = (3 + 10 * torch.rand(rows, 1, 1, generator=draw) for _ in range(2))
        mask |= (down - y).square() + (across - x).square() < 4 + 5 * torch.rand(rows, 1, 1, generator=draw)
    streak = (down - torch.randint(16, (rows, 1, 1), generator=draw)).abs() < 1
    picture = mask.float() + 1.2 * streak + 0.5 * torch.randn(rows, 16, 16, generator=draw)
    return picture.unsqueeze(1), mask.float().unsqueeze(1)


def hands(rows: int, draw: torch.Generator | None = None) -> Columns:
    """Return source (rows, 5) of eight letters and target, the same letters in order."""
    source = torch.randint(8, (rows, 5), generator=draw)
    return {"source": source, "target": source.sort(1).values}


@cache
def whistles(rows: int = 480, seed: int = 405) -> Tensor:
    """Return waves (rows, 40) that rise or fall in pitch."""
    draw = drawn(seed)
    place = torch.arange(40.0)
    pitch, bend, phase = (torch.rand(rows, 1, generator=draw) for _ in range(3))
    wave = ((0.3 + 0.5 * pitch) * place + (bend - 0.5) * place.square() / 80 + 6.3 * phase).sin()
    return wave * (1 - 0.5 * place / 40) + 0.1 * torch.randn(rows, 40, generator=draw)


@cache
def molecules(count: int = 480, seed: int = 407) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return graphs: kind (n,) of four, edges (2, m) in both directions, and an energy; n is from 4 to 9."""
    draw, found = drawn(seed), []
    own, bond = torch.randn(4, generator=drawn(408)), torch.randn(4, 4, generator=drawn(409))
    for _ in range(count):
        size = int(torch.randint(4, 10, (), generator=draw))
        kind = torch.randint(4, (size,), generator=draw)
        parent = torch.tensor([int(torch.randint(at, (), generator=draw)) for at in range(1, size)])
        child = torch.arange(1, size)
        energy = 0.5 * own[kind].sum() + (bond + bond.T)[kind[parent], kind[child]].sum()
        edges = torch.stack([torch.cat([parent, child]), torch.cat([child, parent])])
        found.append((kind, edges, energy / 3))
    return found


@cache
def islands(rows: int = 1200, seed: int = 411) -> Tensor:
    """Return points (rows, 2) around five centres on a ring."""
    draw = drawn(seed)
    turn = 2 * torch.pi * torch.randint(5, (rows,), generator=draw) / 5
    return 1.5 * torch.stack([turn.cos(), turn.sin()], dim=1) + 0.15 * torch.randn(rows, 2, generator=draw)


@cache
def strokes(rows: int = 900, seed: int = 413) -> tuple[Tensor, Tensor]:
    """Return curves (rows, 24) and which of ten hands drew them."""
    draw, habit = drawn(seed), torch.rand(10, 4, generator=drawn(414))
    hand = torch.randint(10, (rows,), generator=draw)
    one, two, three, four = habit[hand].T.unsqueeze(-1)
    place = torch.arange(24.0) / 4 + 3 * torch.rand(rows, 1, generator=draw)
    curve = ((0.8 + one) * place).sin() + two * ((2 + three) * place).cos() + 0.5 * four * place.sin().sign()
    return curve + 0.25 * torch.randn(rows, 24, generator=draw), hand


@cache
def essays(rows: int = 900, seed: int = 415) -> tuple[Tensor, Tensor]:
    """Return columns (rows, 8) and a grade from 0 to 4."""
    draw = drawn(seed)
    x = torch.randn(rows, 8, generator=draw)
    merit = x[:, 0] + 0.8 * x[:, 1] * x[:, 2].sign() + 0.7 * x[:, 3].abs() - 0.5 + 0.5 * x[:, 4]
    merit = merit + 0.3 * torch.randn(rows, generator=draw)
    return x, torch.bucketize(merit, torch.tensor([-1.4, -0.4, 0.5, 1.5]))


@cache
def patients(rows: int = 960, seed: int = 417) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns (rows, 8), times, and whether the end was seen."""
    draw = drawn(seed)
    x = torch.randn(rows, 8, generator=draw)
    risk = 1.2 * x[:, 0] - x[:, 1] + 0.9 * x[:, 2] * x[:, 3] + 0.6 * (2 * x[:, 4]).sin()
    time = -torch.rand(rows, generator=draw).clamp(min=1e-4).log() * (-risk).exp()
    limit = 4 * torch.rand(rows, generator=draw) + 0.05
    return x, torch.minimum(time, limit), (time <= limit).float()


@cache
def visitors(rows: int = 960, seed: int = 419) -> Columns:
    """Return page (rows,) of twelve, number (rows, 5); bought 0 or 1, spent, and taste of three."""
    draw, world = drawn(seed), drawn(420)
    draw_page, worth = torch.randint(12, (rows,), generator=draw), torch.randn(12, generator=world)
    number = torch.randn(rows, 5, generator=draw)
    wish = number[:, 0] + worth[draw_page] + 0.8 * number[:, 1] * number[:, 2]
    spent = 0.5 * wish + number[:, 3].abs() - 0.8 + 0.2 * torch.randn(rows, generator=draw)
    taste = (number @ torch.randn(5, 3, generator=world) + F.one_hot(draw_page % 3, 3)).argmax(1)
    bought = (wish + 0.4 * torch.randn(rows, generator=draw) > 0).float()
    return {"page": draw_page, "number": number, "bought": bought, "spent": spent, "taste": taste}


@cache
def sales(rows: int = 1200, seed: int = 421) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return shop (rows,) of ten, day (rows,) of seven, number (rows, 3), and sales (rows, 1), skewed."""
    draw, world = drawn(seed), drawn(422)
    shop, day = torch.randint(10, (rows,), generator=draw), torch.randint(7, (rows,), generator=draw)
    number = torch.randn(rows, 3, generator=draw)
    level = torch.randn(10, generator=world)[shop] + 0.7 * torch.randn(7, generator=world)[day]
    level = level + 0.8 * number[:, 0] * torch.randn(10, generator=world)[shop].sign() + 0.4 * number[:, 1].abs()
    noise = 0.5 * -torch.rand(rows, generator=draw).clamp(min=1e-4).log() * (1 + number[:, 2].tanh())
    return shop, day, number, (level + noise).unsqueeze(1) / 1.5


PAYS = torch.randn(6, 4, generator=drawn(424))


@cache
def clicks(rows: int = 1500, seed: int = 423) -> Columns:
    """Return what was logged under a careless policy: context (rows, 6), action of four, chance, reward."""
    draw = drawn(seed)
    context = torch.randn(rows, 6, generator=draw)
    policy = (0.3 * torch.randn(rows, 4, generator=draw)).softmax(1)
    action = torch.multinomial(policy, 1, generator=draw)
    reward = pay(context).gather(1, action) + 0.3 * torch.randn(rows, 1, generator=draw)
    return {
        "context": context, "action": action.squeeze(1),
        "chance": policy.gather(1, action).squeeze(1), "reward": reward.squeeze(1),
    }  # fmt: skip


def pay(context: Tensor) -> Tensor:
    """Return what each of four actions (rows, 4) would pay on average."""
    return (context.abs() @ PAYS / 2).tanh() + (context @ PAYS.flip(0) / 3).tanh()


@cache
def glyphs(rows: int = 600, seed: int = 425) -> tuple[Tensor, Tensor]:
    """Return coloured pictures (rows, 3, 12, 12) in noise, and which of six signs is on them."""
    draw = drawn(seed)
    signs = (torch.rand(6, 1, 6, 6, generator=drawn(426)) > 0.5).float()
    kind = torch.randint(6, (rows,), generator=draw)
    colour = torch.tensor([1.2, 0.7, -0.6]).view(3, 1, 1)
    pictures = 0.5 * torch.randn(rows, 3, 12, 12, generator=draw)
    for row, (top, left) in enumerate(torch.randint(4, (rows, 2), generator=draw).tolist()):
        pictures[row, :, top : top + 6, left : left + 6] += colour * signs[kind[row]]
    return pictures, kind


@cache
def regimes(rows: int = 1200, seed: int = 427) -> tuple[Tensor, Tensor]:
    """Return x (rows, 4) and y (rows,): which of four formulas holds depends on where x is."""
    draw, world = drawn(seed), drawn(428)
    x = torch.randn(rows, 4, generator=draw)
    which = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0.2).long()
    slope = 1.5 * torch.randn(4, 4, generator=world)[which]
    return x, (slope * x).sum(1) / 3 + 0.1 * torch.randn(rows, generator=draw)


@cache
def picture(side: int = 32) -> tuple[Tensor, Tensor]:
    """Return places (side ** 2, 2) from -1 to 1 and the brightness there (side ** 2, 1)."""
    line = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    bright = (9 * (x * x + y * y)).sin() + 0.7 * (7 * x - 3 * y).sin() + 0.8 * ((x - 0.3).abs() + y.abs() < 0.5)
    return torch.stack([x, y], dim=-1).view(-1, 2), (bright / 1.3).reshape(-1, 1)


@cache
def claims(rows: int = 960, seed: int = 429) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns (rows, 5), for how long (rows,), and how many claims there were."""
    draw = drawn(seed)
    x, span = torch.randn(rows, 5, generator=draw), 0.2 + 3 * torch.rand(rows, generator=draw)
    log = 0.6 + 0.7 * x[:, 0] - 0.6 * x[:, 1].abs() + 0.6 * x[:, 2] * x[:, 3]
    return x, span, torch.poisson(span * log.clamp(max=2.5).exp(), generator=draw)


@cache
def wine(test: bool = False) -> tuple[Tensor, Tensor]:
    """Return scikit-learn's wines as they were measured: (rows, 13), and three growers; a third is for the test."""
    x, y = datasets.load_wine(return_X_y=True)
    order = torch.randperm(len(x), generator=drawn(431))
    rows = order[:60] if test else order[60:]
    return torch.tensor(x, dtype=torch.float32)[rows], torch.tensor(y)[rows]


@cache
def diabetes(test: bool = False) -> tuple[Tensor, Tensor]:
    """Return scikit-learn's diabetes: standardised columns (rows, 10), and progress (rows,), standardised."""
    x, y = (torch.tensor(each, dtype=torch.float32) for each in datasets.load_diabetes(return_X_y=True))
    order = torch.randperm(len(x), generator=drawn(433))
    rows = order[:140] if test else order[140:]
    return (x / x.std(0))[rows], ((y - y.mean()) / y.std())[rows]


MODULES: tuple[ModuleType, ...] = (logging, socket, tarfile, threading, unittest)


@cache
def sentences(test: bool = False) -> list[tuple[Tensor, int]]:
    """Return lines of the docstrings of five modules, words as numbers below 400, and whose they are."""
    found = []
    for kind, module in enumerate(MODULES):
        told = [value for value in vars(module).values() if inspect.isclass(value) or inspect.isroutine(value)]
        texts = [inspect.getdoc(each) or "" for value in told for each in (value, *vars_of(value))]
        lines = {line for text in texts for line in text.splitlines() if len(line.split()) > 3}
        for line in sorted(lines)[:300]:
            words = [zlib.crc32(word.encode()) % 400 for word in re.findall("[a-z]+", line.lower())]
            if words:
                found.append((torch.tensor(words), kind))
    order = torch.randperm(len(found), generator=drawn(435)).tolist()
    return [found[at] for at in (order[::4] if test else [at for place, at in enumerate(order) if place % 4])]


def vars_of(value: object) -> list[object]:
    """Return the methods of a class, nothing of others."""
    return [each for each in vars(value).values() if inspect.isroutine(each)] if inspect.isclass(value) else []
