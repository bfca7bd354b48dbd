"""Gradients that are not cleared, or cleared too late (A01, A02)."""

import copy

from torch import nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import cancer, contrastive, conv, digits, gpt, pinn, recurrent
from faults.families.batches import endless, loader
from faults.families.scores import cross_entropy


@plant("A01", "digits SGD 3", "digits RMSprop 2", "autoencoder AdamW 2", "tabular SGD 3")
def removed(run: Run) -> Measure:
    """The call is not there."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    loss_fn, train = run.task.loss, run.task.train()
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            if not run.faulty:
                optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
    return lambda: run.task.measure(model)


@plant("A01", "conv Adam 3", "conv SGD 3")
def of_another_optimizer(run: Run) -> Measure:
    """Another optimizer's gradients are cleared: the one of a second model that is not trained yet."""
    model, second = conv.Net(), conv.Net()
    optimizer, other = run.optimizer(model.parameters()), run.optimizer(second.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(3):
        for images, labels in doctor(loader(*conv.data()[:2], size=32)):
            run.either(other, optimizer).zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
    return lambda: conv.error(model)


@plant("A01", "recurrent RMSprop 3", "recurrent SGD 2")
def of_a_copy(run: Run) -> Measure:
    """The gradients of a copy of the model are cleared."""
    model = recurrent.Reader()
    shadow = copy.deepcopy(model)
    optimizer = run.optimizer(model.parameters())
    train = run.task.train()
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(endless(train, 120)):
        run.either(shadow, model).zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: recurrent.error(model)


@plant("A01", "tabular Adam 2", "gpt AdamW 3")
def once_an_epoch(run: Run) -> Measure:
    """Gradients are cleared at the beginning of an epoch only."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(run.task.epochs):
        optimizer.zero_grad()
        for batch in doctor(train):
            if not run.faulty:
                optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    return lambda: run.task.measure(model)


@plant("A01", "contrastive SGD 2", "contrastive AdamW 2")
def of_one_module(run: Run) -> Measure:
    """The gradients of the projection are cleared, those of the trunk are not."""
    model = contrastive.Encoder()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=contrastive.info_nce)
    for batch in doctor(endless(contrastive.Views(digits.data()[0]), 120)):
        run.either(model.projection, model).zero_grad(set_to_none=False)
        loss = contrastive.info_nce(model, batch)
        loss.backward()
        optimizer.step()
    return lambda: contrastive.error(model)


@plant("A01", "pinn Adam 2", "pinn SGD 3", onset=100)
def in_the_first_stage(run: Run) -> Measure:
    """Gradients are cleared in a first stage of training; the second forgot to."""
    model = pinn.Field()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=pinn.residual)
    for step, times in enumerate(doctor(pinn.times(300))):
        if step < 100 or not run.faulty:
            optimizer.zero_grad()
        loss = pinn.residual(model, times)
        loss.backward()
        optimizer.step()
    return lambda: pinn.error(model)


@plant("A01", "cancer SGD 3", onset=1, decidable=1)
def cleared_by_hand_in_vain(run: Run) -> Measure:
    """A helper sets a local name to None, not the gradient."""
    model = cancer.Net()
    optimizer = run.optimizer(model.parameters(), lr=0.2)

    def clear() -> None:
        for parameter in model.parameters():
            if run.faulty:
                gradient = parameter.grad
                gradient = None  # noqa: F841
            else:
                parameter.grad = None

    doctor = run.watch(model, optimizer, loss=cancer.loss)
    for batch in doctor(endless(run.task.train(), 100)):
        clear()
        cancer.loss(model, batch).backward()
        optimizer.step()
    return lambda: cancer.test_loss(model)


@plant("A02", "digits SGD 3", "recommender Adam 3")
def too_late(run: Run) -> Measure:
    """The call is between backward and step."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(3):
        for batch in doctor(train):
            if not run.faulty:
                optimizer.zero_grad()
            loss_fn(model, batch).backward()
            if run.faulty:
                optimizer.zero_grad()
            optimizer.step()
    return lambda: run.task.measure(model)


@plant("A02", "conv Adam 3", "encoder RMSprop 3")
def in_a_helper(run: Run) -> Measure:
    """A helper that does the update clears the model's gradients to zeros first, then steps."""
    model, loss_fn = run.task.model(), run.task.loss
    optimizer = run.optimizer(model.parameters())

    def update() -> None:
        if run.faulty:
            model.zero_grad(set_to_none=False)
        optimizer.step()
        model.zero_grad(set_to_none=False)

    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 80)):
        loss = loss_fn(model, batch)
        loss.backward()
        update()
    return lambda: run.task.measure(model)


@plant("A02", "graph AdamW 3")
def by_hand(run: Run) -> Measure:
    """Gradients are set to None by hand, before the step instead of after it."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    train, loss_fn = run.task.train(), run.task.loss
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(100):
        for graph in doctor(train):
            loss_fn(model, graph).backward()
            if not run.faulty:
                optimizer.step()
            for parameter in model.parameters():
                parameter.grad = None
            if run.faulty:
                optimizer.step()
    return lambda: run.task.measure(model)


@plant("A02", "gpt Adam 3", onset=75)
def from_the_second_stage_on(run: Run) -> Measure:
    """A second stage of training clears gradients before it steps."""
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())
    train = run.task.train()
    doctor = run.watch(model, optimizer, loss=gpt.next_letter)
    for step, batch in enumerate(doctor(endless(train, 160))):
        if step < 75 or not run.faulty:
            optimizer.zero_grad()
        gpt.next_letter(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if step >= 75 and run.faulty:
            optimizer.zero_grad()
        optimizer.step()
    return lambda: gpt.honest_loss(model)
