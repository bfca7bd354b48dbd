"""How the data of this part become batches."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from faults.second import sources
from faults.second.sources import Columns


def tuples(*columns: Tensor, size: int = 32, shuffle: bool = True) -> DataLoader:
    """Return a loader of tuples."""
    return DataLoader(TensorDataset(*columns), batch_size=size, shuffle=shuffle, drop_last=True)


class Dicts:
    """Batches of columns by name, in a new order at each epoch unless they are to stay."""

    def __init__(self, columns: Columns, size: int = 32, shuffle: bool = True) -> None:
        self.columns, self.size, self.shuffle = columns, size, shuffle
        self.rows = len(next(iter(columns.values())))

    def __len__(self) -> int:
        return self.rows // self.size

    def __iter__(self) -> Iterator[Columns]:
        order = torch.randperm(self.rows) if self.shuffle else torch.arange(self.rows)
        for rows in order[: len(self) * self.size].split(self.size):
            yield {name: column[rows] for name, column in self.columns.items()}


def stream(batches: Iterable[Any], steps: int) -> Iterator[Any]:
    """Yield so many batches, epoch after epoch."""
    done = 0
    while done < steps:
        for batch in batches:
            if done == steps:
                return
            done += 1
            yield batch


class Hands:
    """Epochs of new letters."""

    def __init__(self, steps: int = 50, size: int = 48) -> None:
        self.steps, self.size = steps, size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Columns]:
        return (sources.hands(self.size) for _ in range(self.steps))


Graphs = Sequence[tuple[Tensor, Tensor, Tensor]]


def together(graphs: Graphs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return graphs as one: kinds, edges, whose each atom is, and energies (graphs, 1)."""
    sizes = torch.tensor([len(kind) for kind, _, _ in graphs])
    starts = sizes.cumsum(0) - sizes
    edges = torch.cat([edges + start for (_, edges, _), start in zip(graphs, starts, strict=True)], dim=1)
    owner = torch.arange(len(graphs)).repeat_interleave(sizes)
    return torch.cat([kind for kind, _, _ in graphs]), edges, owner, torch.stack([e for _, _, e in graphs]).view(-1, 1)


def molecules(graphs: Graphs | None = None, collate: Any = together, shuffle: bool = True) -> DataLoader:
    """Return a loader of graphs."""
    rows: Any = graphs or sources.molecules()
    return DataLoader(rows, batch_size=24, shuffle=shuffle, collate_fn=collate)


class Triplets:
    """Batches of a curve, another by the same hand, and one by another hand."""

    def __init__(self, curves: Tensor, hand: Tensor, steps: int = 30, size: int = 48) -> None:
        self.curves, self.hand, self.steps, self.size = curves, hand, steps, size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(self.steps):
            first = torch.randint(len(self.hand), (self.size,))
            same = self.hand[first, None] == self.hand
            alike, other = (torch.multinomial(each.float(), 1).squeeze(1) for each in (same, ~same))
            yield self.curves[first], self.curves[alike], self.curves[other]


Lines = Sequence[tuple[Tensor, int]]


def bags(lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
    """Return words in a row, where lines begin, and whose they are."""
    sizes = torch.tensor([len(words) for words, _ in lines])
    return torch.cat([words for words, _ in lines]), sizes.cumsum(0) - sizes, torch.tensor([kind for _, kind in lines])


def pages(lines: Lines | None = None, collate: Any = bags, size: int = 32, shuffle: bool = True) -> DataLoader:
    """Return a loader of lines."""
    rows: Any = lines or sources.sentences()
    return DataLoader(rows, batch_size=size, shuffle=shuffle, collate_fn=collate)


def tasted(test: bool = False) -> tuple[Tensor, Tensor]:
    """Return wines with columns in units of their spread."""
    x, y = sources.wine(test)
    known = sources.wine()[0]
    return (x - known.mean(0)) / known.std(0), y
