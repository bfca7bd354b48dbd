"""Digits through a bottleneck: a variational autoencoder, its pixels from 0 to 1."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families import digits
from faults.families.batches import Shuffled
from faults.families.task import Task


def data() -> tuple[Tensor, Tensor]:
    """Return pixels from 0 to 1, to train on and to test on."""
    x, _, u, _ = digits.data()
    return (x + 1) / 2, (u + 1) / 2


class Vae(nn.Module):
    """An encoder to eight noisy numbers, and a decoder to logits of pixels."""

    def __init__(self, wide: int = 64, latent: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, wide), nn.ReLU(), nn.Linear(wide, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels -> logits, means and log variances of the latent numbers; no noise in evaluation mode."""
        mean, spread = self.encoder(x).chunk(2, dim=-1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decoder(mean + noise * (spread / 2).exp()), mean, spread


def bound(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the negative evidence bound, a sum over pixels as it is defined, a mean over rows."""
    logits, mean, spread = model(batch[0])
    told = F.binary_cross_entropy_with_logits(logits, batch[0], reduction="none").sum(1)
    return (told + 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1)).mean()


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the bound on the test digits."""
    model.eval()
    return bound(model, (data()[1],)).item()


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.005, "Adam": 0.006, "AdamW": 0.006, "RMSprop": 0.002, "Adagrad": 0.05}
    return Task(Vae, bound, lambda: Shuffled(data()[0], size=40), error, rates, 6)
