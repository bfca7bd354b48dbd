"""Data that take a wrong way through the model (A18 to A20)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import molecules as load, together
from faults.second.loops import train
from faults.second.worlds import world


class _Unasked(nets.Asking):
    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return what the first card would ask for."""
        return super().scores({**batch, "ask": batch["key"][:, 0]})


@plant("A18", "cards AdamW 3")
def asks_for_the_first(run: Run) -> Measure:
    """What is asked for never reaches the model; the first card's key is taken."""
    return train(run, run.either(_Unasked, nets.Asking)())


class _Alone(nets.Messages):
    def forward(self, kind: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        alone = torch.arange(len(kind)).expand(2, -1)
        return super().forward(kind, alone, owner)


@plant("A18", "molecules Adam 3")
def neighbours_not_heard(run: Run) -> Measure:
    """Loops are added to the edges, and take their place."""
    return train(run, run.either(_Alone, nets.Messages)())


@plant("A18", "picture RMSprop 3")
def one_axis_twice(run: Run) -> Measure:
    """A grid is stacked of one axis twice."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        places = torch.stack([batch[0][:, 0], batch[0][:, run.either(0, 1)]], dim=1)
        return F.mse_loss(model(places), batch[1])

    return train(run, loss=loss_fn)


def _adrift(graphs: Any) -> tuple[Tensor, ...]:
    """Return graphs as one, with edges that all point into the first."""
    kind, _, owner, energy = together(graphs)
    return kind, torch.cat([edges for _, edges, _ in graphs], dim=1), owner, energy


@plant("A19", "molecules Adam 3")
def edges_without_offsets(run: Run) -> Measure:
    """Graphs are joined to a batch, and their edges still count from 0: all point into the first one."""
    return train(run, data=load(collate=run.either(_adrift, together)))


class _Across(nets.Embedder):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.net(x), dim=0) * len(x) ** 0.5


@plant("A19", "strokes Adam 2")
def length_over_the_batch(run: Run) -> Measure:
    """Vectors are brought to length along the batch."""
    model = run.either(_Across, nets.Embedder)()

    def one_by_one(model: nn.Module) -> float:
        class Single(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([model(each.unsqueeze(0)) for each in x])

        return world(run).measure(Single())

    return train(run, model, measure=one_by_one)


class _Ahead(nets.Whistler):
    def trim(self, x: Tensor, long: int) -> Tensor:
        return x[..., -long:]


@plant("A20", "whistles SGD 2")
def trimmed_at_the_wrong_end(run: Run) -> Measure:
    """What padding adds is cut off at the beginning, so that each place sees what comes after it."""

    @torch.no_grad()
    def honest(model: nn.Module) -> float:
        model.eval()
        wave = sources.whistles(200, 464)
        told = torch.stack([model(wave[:, :at])[:, -1] for at in (12, 18, 24, 31, 38)])
        return F.mse_loss(told, wave[:, [12, 18, 24, 31, 38]].T).item()

    return train(run, run.either(_Ahead, nets.Whistler)(), measure=honest)
