"""Handwritten digits, 8 by 8 pixels, told apart by a small convolutional network: `python examples/digits.py`."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import steepest as st

Batch = tuple[Tensor, Tensor]


def network() -> nn.Module:
    """Return a network from 1 x 8 x 8 pixels to 10 scores."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy between the scores and the digits."""
    images, digits = batch
    return nn.functional.cross_entropy(model(images), digits)


def accuracy(model: nn.Module, batch: Batch) -> Tensor:
    """Share of images whose highest score is that of the right digit."""
    images, digits = batch
    return (model(images).argmax(1) == digits).float().mean()


def task() -> st.Task:
    """Train on 1,437 images, test on the other 360."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    digits = torch.tensor(data.target)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    train, test = order[360:], order[:360]
    return st.Task(
        network(), loss, (images[train], digits[train]),
        val=(images[test], digits[test]), metrics={"accuracy": accuracy}, epochs=8,
    )  # fmt: skip


def main() -> None:
    """Train, and see that it worked: the network has to know at least 97 of 100 digits it never saw."""
    torch.manual_seed(0)
    result = st.fit(**vars(task()))
    right = result.last("val/accuracy")
    print(f"{right:.1%} of the test images are recognised")
    assert right >= 0.97, f"only {right:.1%}: training did not work"


if __name__ == "__main__":
    main()
