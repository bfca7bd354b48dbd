"""A graph network: the largest sum of marks that any neighbour of a node sees around itself."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded, squared

NODES, WIDE, ROWS = 20, 32, 16


class Layer(nn.Module):
    """Messages along edges, weighted by what both ends say of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.ask, self.answer = nn.Linear(WIDE, WIDE, bias=False), nn.Linear(WIDE, WIDE, bias=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes (rows, n, wide), edges (rows, n, n) -> nodes."""
        weights = edges * (self.ask(nodes) @ self.answer(nodes).transpose(1, 2) / WIDE**0.5).sigmoid()
        return nodes + (self.own(nodes) + weights @ self.others(nodes) / 4).relu()


class Graph(nn.Module):
    """Three layers on marks and degrees."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.end = nn.Linear(10, WIDE), nn.Linear(WIDE, 1)
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        """(Marks, edges) -> a number for each node."""
        marks, edges = graph
        degrees = edges.sum(-1, keepdim=True)
        nodes = self.begin(torch.cat([marks, degrees, edges @ degrees / 4], dim=-1))
        for layer in self.layers:
            nodes = layer(nodes, edges)
        return self.end(nodes)


def graphs(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return graphs in two communities, denser inside, and what each node should say."""
    side = torch.randint(2, (rows, NODES, 1), generator=draw)
    chance = torch.where(side == side.transpose(1, 2), 0.35, 0.1)
    upper = (torch.rand(chance.shape, generator=draw) < chance).float().triu(1)
    edges = upper + upper.transpose(1, 2)
    marks = torch.randn(rows, NODES, 8, generator=draw)
    around = (edges @ marks[..., :1]).transpose(1, 2) / 2
    largest = torch.where(edges > 0, around, -1.0).amax(-1, keepdim=True)
    return (marks, edges), largest


def workloads() -> list[Workload]:
    """Return one."""
    val = [graphs(torch.Generator().manual_seed(5), 300)]
    return [Workload("graph_largest", "graph", seeded(Graph), squared, drawn(graphs), val, ROWS, 1000)]
