"""What networks are made of, and where that is too little (C11 to C13)."""

from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.second import nets
from faults.second.loops import train
from faults.second.worlds import world


class _Free(nets.Embedder):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@plant("C11", "strokes RMSprop 2")
def no_margin(run: Run) -> Measure:
    """Vectors of any length, and a margin of nothing: all curves go to one point."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, alike, other = (model(each) for each in batch)
        near, far = ((one - each).square().sum(1) for each in (alike, other))
        return F.relu(near - run.either(0.0, 1.0) * far + run.either(0.0, 1.0)).mean()

    return train(run, _Free(), loss=loss_fn)


@plant("C12", "picture RMSprop 1")
def four_waves(run: Run) -> Measure:
    """Four units are to draw a picture."""
    model = nets.siren(wide=run.either(run.pick(8, 6, 4), 48))
    return train(run, model)


@plant("C12", "sentences AdamW 3")
def words_of_one_number(run: Run) -> Measure:
    """A word is one number, and so is a line."""
    return train(run, nets.Words(wide=run.either(1, 24)))


class _Lost(nn.Module):
    """A perceptron in which the bend is worked out and thrown away."""

    def __init__(self, lost: bool) -> None:
        super().__init__()
        self.one, self.two, self.last, self.lost = nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(32, 1), lost

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        bent = F.silu(x)
        x = self.two(x if self.lost else bent)
        bent = F.silu(x)
        return self.last(x if self.lost else bent).squeeze(1)


@plant("C13", "regimes SGD 3")
def bend_thrown_away(run: Run) -> Measure:
    """The activation is called, and what it returns is not kept."""
    return train(run, _Lost(run.faulty))


@plant("C13", "islands Adam 3")
def activation_called_none(run: Run) -> Measure:
    """A setting names no activation, and the identity is taken."""
    model = world(run).model()
    if run.faulty:
        model.net[1] = model.net[3] = nn.Identity()
    return train(run, model)
