"""Diabetes a year on, predicted from ten measurements by a small network: `python examples/diabetes.py`."""

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

import steepest as st

Batch = tuple[Tensor, Tensor]


def network() -> nn.Module:
    """Return a network from ten measurements to one number."""
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error, in units of the variance of the target: 1 is what the mean alone would reach."""
    measurements, progress = batch
    return nn.functional.mse_loss(model(measurements), progress)


def task() -> st.Task:
    """Train on 342 patients, test on the other 100, both in standard units of the former."""
    data = load_diabetes()
    measurements = torch.tensor(data.data, dtype=torch.float32)
    progress = torch.tensor(data.target, dtype=torch.float32).unsqueeze(1)
    order = torch.randperm(len(progress), generator=torch.Generator().manual_seed(0))
    train, test = order[100:], order[:100]
    x = (measurements - measurements[train].mean(0)) / measurements[train].std(0)
    y = (progress - progress[train].mean()) / progress[train].std()
    return st.Task(network(), loss, (x[train], y[train]), val=(x[test], y[test]), epochs=15)


def main() -> None:
    """Train, and see that it worked: more than four tenths of the variance of unseen patients is explained."""
    torch.manual_seed(0)
    task_ = task()
    result = st.fit(**vars(task_))
    explained = 1 - result.last("val/loss") / task_.val[1].var().item()
    print(f"{explained:.0%} of the variance of the test patients is explained")
    assert explained > 0.4, f"only {explained:.0%}: training did not work"


if __name__ == "__main__":
    main()
