"""A second fault is named where the first one is proven, and never where there is but one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from steepest.doctor.demo import Demo, Rows, demonstrate, entropy, train


def entropy_of_shares(model: nn.Module, batch: Rows) -> Tensor:
    """Return a cross-entropy that is given a softmax."""
    return nn.functional.cross_entropy(model(batch[0]).softmax(1), batch[1])


def never_cleared(rate: float) -> Callable[[Demo], None]:
    """Return a program that never clears gradients, at a rate."""

    def program(run: Demo) -> None:
        model = run.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes(), 10)):
            entropy(model, batch).backward()
            optimizer.step()

    return program


def squashed(rate: float) -> Callable[[Demo], None]:
    """Return a program whose loss of logits is given shares, at a rate."""

    def program(run: Demo) -> None:
        model = run.network()
        train(run, model, torch.optim.Adam(model.parameters(), lr=rate), entropy_of_shares, run.batches(run.classes()))

    return program


def left_out(decay: float) -> Callable[[Demo], None]:
    """Return a program that leaves out the last layer, at a decay."""

    def program(run: Demo) -> None:
        model = run.network()
        optimizer = torch.optim.AdamW(model[:4].parameters(), lr=1e-2, weight_decay=decay)
        train(run, model, optimizer, entropy, run.batches(run.classes()))

    return program


def names(program: Callable[[Demo], None]) -> tuple[list[str], list[str]]:
    """Return the ids of what is proven, and what went wrong in the doctor."""
    found, errors = demonstrate(program)
    return [each.cause for each in found if each.status == "proven"], errors


def test_a_rate_too_high_beside_gradients_that_are_not_cleared() -> None:
    assert names(never_cleared(3.0)) == (["A01", "D01"], [])
    assert names(never_cleared(0.01)) == (["A01"], [])


def test_a_rate_too_low_beside_a_loss_of_logits_that_is_given_shares() -> None:
    assert names(squashed(1e-5)) == (["A08", "D03"], [])
    assert names(squashed(1e-2)) == (["A08"], [])


def test_a_decay_too_strong_beside_a_layer_that_is_in_no_optimizer() -> None:
    assert names(left_out(40.0)) == (["A04", "D09"], [])
    assert names(left_out(0.01)) == (["A04"], [])
