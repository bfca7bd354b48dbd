"""Friends in four circles: a graph network says of each person which circle it is, from noisy marks of all."""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families.batches import drawn
from faults.families.task import Task

NODES, CIRCLES, MARKS = 160, 4, 12


class Graph(NamedTuple):
    """Marks (n, 12), the normalised edges (n, n), circles (n,), and the nodes that are trained on."""

    marks: Tensor
    edges: Tensor
    circles: Tensor
    known: Tensor


@cache
def data() -> Graph:
    """Return the one graph, a third of whose nodes are trained on."""
    draw = drawn(11)
    circles = torch.randint(CIRCLES, (NODES,), generator=draw)
    chance = torch.where(circles[:, None] == circles, 0.12, 0.02)
    upper = (torch.rand(NODES, NODES, generator=draw) < chance).float().triu(1)
    edges = upper + upper.T + torch.eye(NODES)
    scale = edges.sum(1).rsqrt()
    centres = torch.randn(CIRCLES, MARKS, generator=draw)
    marks = 0.5 * centres[circles] + torch.randn(NODES, MARKS, generator=draw)
    return Graph(marks, scale[:, None] * edges * scale, circles, torch.rand(NODES, generator=draw) < 0.35)


class Network(nn.Module):
    """Graph convolutions; after each but the last a ReLU and dropout."""

    def __init__(self, wide: int = 24, layers: int = 2, dropout: float = 0.3) -> None:
        super().__init__()
        sizes = [MARKS, *[wide] * (layers - 1), CIRCLES]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, marks: Tensor, edges: Tensor) -> Tensor:
        """Return logits of every node."""
        for layer in self.layers[:-1]:
            marks = self.dropout(torch.relu(edges @ layer(marks)))
        return edges @ self.layers[-1](marks)


def loss(model: nn.Module, batch: Graph) -> Tensor:
    """Return the cross-entropy of the known nodes."""
    return F.cross_entropy(model(batch.marks, batch.edges)[batch.known], batch.circles[batch.known])


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the error rate on the other nodes."""
    model.eval()
    graph = data()
    logits = model(graph.marks, graph.edges)
    wrong = (logits.argmax(-1) != graph.circles) | ~logits.isfinite().all(-1)
    return wrong[~graph.known].float().mean().item()


def task() -> Task:
    """Return the family: an epoch is one batch, the whole graph."""
    rates = {"SGD": 0.1, "Adam": 0.01, "AdamW": 0.01, "RMSprop": 0.005, "Adagrad": 0.05}
    return Task(Network, loss, lambda: [data()], error, rates, 120)
