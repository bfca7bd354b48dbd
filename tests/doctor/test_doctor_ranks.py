"""Causes take their symptoms with them, and no other fault."""

import gc

import pytest
import torch
from torch import nn
from torch.optim import optimizer as optimizers

from steepest.doctor import watch
from steepest.doctor.cause import Cause, catalogue


def named(number, when=None):
    return next(each for each in catalogue()[number] if when in (None, each.when))


def test_a_class_is_explained_but_for_its_invariants():
    assert named("A01").explains(named("D01"))
    assert not named("A01").explains(named("D06", "step"))
    assert named("D06", "step").explains(named("D03"))
    assert not named("D01").explains(named("D01"))


def test_every_cause_says_what_it_is_how_it_is_found_and_what_to_do():
    for same in catalogue().values():
        for each in same:
            assert isinstance(each, Cause)
            assert all(len(text) > 15 for text in (each.symptom, each.proof, each.fix))
            assert each.name == same[0].name


def test_at_least_sixty_causes_and_all_of_class_a():
    ids = list(catalogue())
    assert len(ids) >= 60
    assert {f"A{number:02}" for number in range(1, 25)} <= set(ids)


def test_two_faults_are_both_named():
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3), nn.Softmax(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    doctor = watch(model, optimizer, loss)
    for _ in range(5):
        for some in doctor([(part, part[:, :3].argmax(1)) for part in x.split(32)]):
            optimizer.zero_grad()
            loss(model, some).backward()
            optimizer.step()
    assert {each.cause for each in doctor.findings} == {"A08", "D06"}
    assert not doctor.errors
    doctor.close()


def test_nothing_is_left_behind_after_closing_or_when_nobody_holds_it():
    before = torch.autograd.backward
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hooks = len(optimizers._global_optimizer_pre_hooks)
    for closes in (True, False):
        doctor = watch(model, optimizer)
        assert torch.autograd.backward is not before
        if closes:
            doctor.close()
            doctor.close()
        del doctor
        gc.collect()
        assert torch.autograd.backward is before
        assert not model._forward_pre_hooks
        assert len(optimizers._global_optimizer_pre_hooks) == hooks
        assert all(not each._post_accumulate_grad_hooks for each in model.parameters())


def test_what_cannot_be_watched_is_said():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for given, words in (((lambda x: x, optimizer), "model is"), ((model, []), "nothing"), ((model, model), "Linear")):
        with pytest.raises(TypeError, match=words):
            watch(*given)
    with pytest.raises(TypeError, match="loss is a function"):
        watch(model, optimizer, loss=3)
    watch(model, [optimizer, torch.optim.Adam(model.parameters())]).close()
