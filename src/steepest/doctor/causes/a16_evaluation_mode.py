"""Training in evaluation mode."""

import torch
from torch import nn

from steepest.doctor.anatomy import current
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.twin import set_modes


@cause(
    "A16",
    "trained-in-eval-mode",
    fix="Call model.train() before training goes on after each evaluation.",
    when=STEP,
    weight=EXACT,
    masks="A06 B C D",
)
def trained_in_eval_mode(lab: Lab) -> Found | None:
    """Batch norm uses running statistics and dropout is off while training: it is unstable, or it overfits.

    The whole model is in evaluation mode at each of the last backward passes, and was in training mode before, or has
    never trained: its running statistics have not seen a batch.

    The same batch in training mode loses something else.
    """
    update, grammar = lab.update, lab.tap.grammar
    if update is None or grammar.mode or lab.model.training:
        return None
    last = [backward.training for each in [*list(lab.history.latest)[-2:], update] for backward in each.backwards]
    if any(last) or len(last) < min(3, lab.now + 1) or lab.now < 1:
        return None
    untouched = [each for each in lab.model.modules() if _untouched(each)]
    if not untouched and True not in grammar.trained:
        return None
    differs = _differs(lab)
    if differs is False or (differs is None and not untouched):
        return None
    why = (
        "it was in training mode before"
        if True in grammar.trained
        else "its running statistics have never seen a batch"
    )
    return Found(f"The model is in evaluation mode while it trains; {why}.", {"training": "False"}, differs is True)


def _untouched(module: nn.Module) -> bool:
    """Return whether a norm with running statistics has never been given a batch in training mode."""
    counted = getattr(module, "num_batches_tracked", None)
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and counted is not None and int(counted) == 0


def _differs(lab: Lab) -> bool | None:
    """Return whether the batch loses something else in training mode, None without a loss."""
    of = current(lab)
    if lab.loss is None or of is None:
        return None
    model = lab.twin()
    before = float(lab.ask(model, of).detach())
    set_modes(model, [True] * len(lab.modes))
    return abs(float(lab.ask(model, of).detach()) - before) > 1e-6 * abs(before)


def demo(run: Demo) -> None:
    """A loop that validates after each epoch, and does not go back to training mode."""
    model = run.network(wide=64)
    model.insert(2, nn.Dropout(0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = run.classes()
    doctor = run.watch(model, optimizer, entropy)
    for epoch in range(4):
        model.train(not run.faulty or epoch == 0)
        for batch in doctor(run.batches(data, 1)):
            optimizer.zero_grad()
            entropy(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            entropy(model, data)
