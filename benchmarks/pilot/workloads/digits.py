"""The handwritten digits of scikit-learn, which several families use."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return 1797 pictures of 64 grey values in [0, 1], and their classes."""
    pictures, classes = load_digits(return_X_y=True)
    return torch.tensor(pictures, dtype=torch.float32) / 16, torch.tensor(classes)


def relabelled(classes: Tensor, share: float) -> Tensor:
    """Return the classes with that share of them drawn at random."""
    draw = torch.Generator().manual_seed(2)
    noise = torch.randint(10, classes.shape, generator=draw)
    return torch.where(torch.rand(classes.shape, generator=draw) < share, noise, classes)
