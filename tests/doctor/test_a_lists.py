"""A loader that wraps a tensor in a list, of which the loop takes it out, is understood."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from steepest.doctor import watch


def test_the_one_thing_in_a_list_is_what_the_loss_is_given():
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss(model, x):
        return (model(x) - x).square().mean()

    doctor = watch(model, optimizer, loss)
    for _ in range(3):
        for (some,) in doctor(DataLoader(TensorDataset(x), batch_size=32)):
            loss(model, some).backward()  # never cleared
            optimizer.step()
    assert [each.cause for each in doctor.findings] == ["A01"]
    assert doctor.findings[0].status == "proven"
    assert not doctor.errors
    doctor.close()
