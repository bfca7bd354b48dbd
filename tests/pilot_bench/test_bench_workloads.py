"""Every workload of the pilot's benchmark builds, and AdamW lowers its loss within 20 steps."""

import math
from itertools import islice

import pytest
import torch
from pilot import harness
from pilot.workloads import FRESH, PARTS, TUNE, UNSEEN, every


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mean_loss(workload, model, batches):
    """Of several, for one batch may be without a rare class."""
    with torch.no_grad():
        return sum(workload.loss(model, batch).item() for batch in batches) / len(batches)


@pytest.mark.parametrize("name", TUNE + FRESH + UNSEEN)
def test_the_loss_falls(name):
    workload = every()[name]
    model = workload.build(0)
    assert harness.validate(workload, model) > workload.floor
    batches = list(islice(workload.batches(0), 20))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    before = mean_loss(workload, model, batches)
    for batch in batches:
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        optimizer.step()
    assert math.isfinite(before)
    assert mean_loss(workload, model, batches) < before


@pytest.mark.parametrize("name", ["overfit_few", "flow_ring", "finetune_digits", *UNSEEN])
def test_a_seed_says_all(name):
    workload = every()[name]
    for one, other in zip(workload.build(1).parameters(), workload.build(1).parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(next(workload.batches(1)), next(workload.batches(1)), strict=True):
        assert torch.equal(one, other)


def test_the_halves():
    """Each workload is in one of them, and the families that have two are in both."""
    assert len(set(TUNE + FRESH)) == len(TUNE + FRESH) >= 24
    families = [every()[name].family for name in TUNE + FRESH]
    assert len(set(families)) >= 12
    assert set(every()) == set().union(*PARTS.values())
    for family in set(families):
        in_tune = sum(every()[name].family == family for name in TUNE)
        assert abs(2 * in_tune - families.count(family)) <= 1


def test_the_third_part():
    """It is of other workloads than the halves, and of many kinds."""
    assert len(set(UNSEEN)) == len(UNSEEN) >= 14
    assert not set(UNSEEN) & set(TUNE + FRESH)
    assert len({every()[name].family for name in UNSEEN}) == len(UNSEEN)
    sizes, steps = zip(*((every()[name].batch_size, every()[name].steps) for name in UNSEEN), strict=True)
    assert min(sizes) <= 4
    assert min(steps) >= 120
    assert max(steps) <= 8000
