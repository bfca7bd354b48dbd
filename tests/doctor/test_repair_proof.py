"""What a repair is proven by: replays from sound snapshots, judged by what the run itself has come to."""

import math

import pytest
import torch
from torch import nn

from steepest.doctor.causes import b01_bad_values, d03_rate_too_low, d09_decays_weights
from steepest.doctor.lab import FORK
from steepest.doctor.repair_memory import Attendant
from steepest.doctor.repair_proof import (
    LADDER,
    SPARING,
    best,
    in_full,
    ladder,
    lengthened,
    origins,
    proofs,
    typical,
)
from steepest.doctor.replay import Change


def entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batches(count):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count * 16, 8, generator=draw)
    return [(some, some[:, :3].argmax(1)) for some in x.split(16)]


def watched(lr=1e-4, count=40, loss=entropy, spoil=None):
    """Return a doctor that has seen so many steps of plain descent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    doctor = Attendant(model, optimizer, loss, None)
    for step, batch in enumerate(doctor(batches(count))):
        if spoil is not None:
            spoil(step, model)
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    doctor.close()
    return doctor


def tried(doctor, changes):
    with doctor.aside():
        (start, *_) = origins(doctor.lab, None)
        return list(proofs(doctor.lab, changes, start))


def test_what_helps_passes_and_what_does_not_fails():
    lower, same, higher = tried(watched(), [Change("lower", rate=0.1), Change("same"), Change("higher", rate=300.0)])
    assert (lower.passed, same.passed, higher.passed) == (False, False, True)
    assert higher.after < 0.8 * higher.before


def test_the_copy_of_a_full_proof_is_what_the_run_would_be():
    doctor = watched()
    (proof,) = tried(doctor, [Change("higher", rate=300.0)])
    with doctor.aside():
        whole = in_full(doctor.lab, proof)
    other = watched(lr=0.03)
    pairs = zip(whole.made.twin.model.parameters(), other.model.parameters(), strict=True)
    assert len(whole.updates) == 40
    assert all(torch.equal(one, another) for one, another in pairs)


def test_of_those_alike_the_first_is_taken_and_else_the_best():
    doctor = watched()
    rates = [Change(f"{each}", rate=each) for each in (30.0, 300.0, 301.0)]
    names = [each.change.name for each in best(tried(doctor, rates))]
    assert names == ["300.0", "301.0", "30.0"]


def test_a_copy_with_weights_that_are_not_finite_never_passes():
    (proof,) = tried(watched(), [Change("far too high", rate=1e12)])
    assert not proof.passed
    assert not math.isfinite(proof.after)


def test_a_snapshot_with_a_bad_weight_is_no_origin():
    doctor = watched()
    assert doctor.lab.start is not None
    with doctor.aside():
        assert [each.step for each in origins(doctor.lab, None)] == [0, 25]
        with torch.no_grad():
            next(doctor.lab.start.model.parameters())[0, 0] = math.nan
        assert [each.step for each in origins(doctor.lab, None)] == [25]


def test_before_a_blow_up_the_latest_snapshot_comes_first():
    doctor = watched()
    doctor.lab.event = 30
    with doctor.aside():
        assert [each.step for each in origins(doctor.lab, None)] == [25, 0]
    doctor.lab.event = 20
    with doctor.aside():
        assert [each.step for each in origins(doctor.lab, None)] == [0]


def test_a_replay_that_does_not_come_out_as_the_run_did_proves_nothing():
    def disturb(step, model):
        with torch.no_grad():
            next(model.parameters()).add_(0.5 * (step == 4))

    doctor = watched(spoil=disturb)
    with doctor.aside():
        assert 0 not in [each.step for each in origins(doctor.lab, None)]


def test_few_updates_are_made_again_and_many_are_left():
    assert lengthened([1, 2, 3], 7) == [1, 2, 3, 1, 2, 3, 1]
    assert lengthened(list(range(FORK)), 7) == list(range(FORK))


def test_single_precision_is_a_rung_only_where_anything_is_not():
    doctor = watched(count=4)
    assert ladder(doctor.lab) == LADDER
    doctor.model.bfloat16()
    assert len(ladder(doctor.lab)) == len(LADDER) + 1


def test_a_step_whose_gradient_is_not_finite_is_spared_on_a_copy():
    def rooted(model, batch):
        there = float(batch[0][0, 0] != spoiled[0][0, 0])
        return entropy(model, batch) + 1e-6 * (there * next(model.parameters())).square().sum().sqrt()

    spoiled = batches(20)[12]
    doctor = watched(lr=0.1, count=20, loss=rooted)
    assert doctor.lab.event == 13
    proof, without = tried(doctor, [SPARING, Change("as it was")])
    assert proof.passed
    assert not without.passed


def test_rows_that_are_not_finite_are_left_out_of_all_tensors():
    x, y = torch.randn(6, 3), torch.arange(6)
    x[2, 1], x[4, 0] = math.nan, math.inf
    (change,) = b01_bad_values.repair(None, None)
    kept, labels = change.batch((x, y))
    assert labels.tolist() == [0, 1, 3, 5]
    assert torch.equal(kept, x[[0, 1, 3, 5]])
    whole = (torch.full((2, 3), math.nan), torch.arange(2))
    assert change.batch(whole) is whole  # nothing would be left: the run skips it
    sound = (torch.zeros(2, 3), torch.arange(2))
    assert change.batch(sound) is sound


def test_groups_that_decay_differently_decay_no_more():
    doctor = watched(count=4)
    names = [each.name for each in d09_decays_weights.repair(doctor.lab, None)]
    assert len(names) == 4
    doctor.lab.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "weight_decay": 3.0})
    assert [each.settings for each in d09_decays_weights.repair(doctor.lab, None)] == [{"weight_decay": 0.0}]


def test_what_is_offered_against_a_low_rate_is_mildest_first():
    rates = [each.rate for each in d03_rate_too_low.repair(None, None)]
    assert rates == sorted(rates)
    assert min(rates) > 1


def test_the_usual_loss_is_a_median_that_no_odd_batch_moves():
    doctor = watched(count=20)
    with doctor.aside():
        usual = typical(doctor.lab, doctor.lab.twin())
        of = doctor.lab.history.latest[-1].backwards[0].of
        of.batch = (of.batch[0] * math.nan, of.batch[1])
        assert typical(doctor.lab, doctor.lab.twin()) == pytest.approx(usual, rel=0.1)
