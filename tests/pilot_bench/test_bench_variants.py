"""A changed workload is changed in what it says, and in nothing else."""

import math
from itertools import islice

import pytest
import torch
from pilot import harness
from pilot.variants import varied
from pilot.workloads import every


def changed(name, changes):
    return every()[name], varied(every()[name], changes)


def first(workload):
    return next(workload.batches(0))


def test_nothing_is_changed_by_nothing():
    plain, same = changed("wine_raw", "")
    assert plain is same
    with pytest.raises(ValueError, match="there are steps"):
        varied(plain, "stpes=3")


def test_the_loss_is_another_in_training_only():
    plain, other = changed("wine_raw", "steps=240@loss=1e4")
    model = plain.build(0)
    assert other.steps == 240
    assert other.loss(model, first(plain)).item() == pytest.approx(1e4 * plain.loss(model, first(plain)).item())
    assert harness.validate(other, model) == harness.validate(plain, model)


def test_what_has_a_score_of_its_own_keeps_it():
    plain, other = changed("pinn_forced", "loss=1e4")
    assert other.score is plain.score


def test_weights_begin_larger_but_frozen_ones_do_not():
    plain, other = changed("probe_digits", "start=10")
    for one, ten in zip(plain.build(0).parameters(), other.build(0).parameters(), strict=True):
        assert torch.equal(10 * one if one.requires_grad else one, ten)


@pytest.mark.parametrize(("name", "rows"), [("conv_digits", 4), ("gpt_stdlib", 1), ("graph_largest", None)])
def test_batches_are_smaller(name, rows):
    plain, other = changed(name, "batch=16")
    assert other.batch_size == (rows or max(1, round(plain.batch_size / 16)))
    assert len(first(other)[-1]) == other.batch_size
    assert torch.equal(first(other)[-1], first(plain)[-1][: other.batch_size])


def test_every_third_loss_with_a_gradient_is_nan():
    plain, other = changed("wine_raw", "nan=3")
    model = plain.build(0)
    losses = []
    for batch in islice(plain.batches(0), 6):
        with torch.no_grad():
            assert torch.isfinite(other.loss(model, batch))
        losses.append(other.loss(model, batch).item())
    assert [math.isnan(loss) for loss in losses] == [False, False, True] * 2
    assert math.isfinite(harness.validate(other, model))


def test_labels_are_wrong():
    plain, other = changed("conv_digits", "labels=0.4")
    wrong = total = 0
    for (_, right), (_, given) in islice(zip(plain.batches(0), other.batches(0), strict=False), 50):
        wrong, total = wrong + (right != given).sum().item(), total + len(right)
    assert 0.3 < wrong / total < 0.4  # a tenth of what is drawn anew is what it was
    assert other.val is plain.val


def test_layers():
    _, deep = changed("tanh12", "layers=40")
    assert sum(parameter.ndim == 2 for parameter in deep.build(0).parameters()) == 40
    with pytest.raises(ValueError, match="Only tanh12"):
        varied(every()["wine_raw"], "layers=40")
