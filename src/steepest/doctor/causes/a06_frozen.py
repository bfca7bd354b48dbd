"""Layers that are frozen by mistake."""

import torch
from torch import nn

from steepest.doctor.cause import EXACT, REPLAYED, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.members import SMALL, copied, default_law, unmoved
from steepest.doctor.replay import Change
from steepest.doctor.trial import better
from steepest.doctor.twin import Twin
from steepest.doctor.unreached import unreached

MOST = 0.55
"""So many of the matrices have to be frozen, or a part of a model as good as trained could be."""


@cause(
    "A06",
    "frozen-by-mistake",
    fix="Take the layers out of torch.no_grad().",
    when=STEP,
    weight=EXACT,
    masks="A18 B C D",
)
def runs_without_gradients(lab: Lab) -> Found | None:
    """Training is slow or flat: layers that are to be trained are not.

    Parameters that the optimizer holds, and that still are as they were drawn, are used where gradients are switched
    off.

    With gradients switched on there, in a copy, they receive one.
    """
    found = unreached(lab)
    if found is None or found.kind != "no_grad":
        return None
    summary = f"{len(found.names)} parameters that are to be trained, such as {found.names[0]}, are used under no_grad."
    return Found(summary, {"parameters": len(found.names)}, proven=True, where=found.where)


@cause(
    "A06",
    "frozen-by-mistake",
    fix="Set requires_grad of the layers, or load the weights that were to be frozen.",
    weight=REPLAYED + 0.9,
    masks="A18 B C D",
)
def does_not_require_gradients(lab: Lab) -> Found | None:
    """Training is slow or flat: layers that are to be trained are not.

    Most matrices do not require a gradient, and are just what their layers draw when they are made: nothing was
    loaded into them, and nobody moves them. Copies of other layers and layers with adapters are left out.

    The same steps with them trained as well, on a copy, lower the loss further.
    """
    frozen = _frozen(lab)
    if not frozen or lab.start is None:
        return None
    gained = better(lab, Change("unfrozen", prepare=lambda twin: _free(twin, frozen)))
    if gained is None:
        return None
    summary = f"{len(frozen)} matrices, such as {sorted(frozen)[0]}, are frozen as they were first drawn."
    return Found(summary, {"matrices": len(frozen), **gained.evidence}, proven=True, cure=gained.change)


def _frozen(lab: Lab) -> set[str]:
    """Return the names of the frozen matrices, if they are many, fresh, and nobody's copies; of none otherwise."""
    matrices = {name: each for name, each in lab.model.named_parameters() if each.ndim > 1 and each.numel() >= SMALL}
    frozen = {name for name, each in matrices.items() if not each.requires_grad}
    if len(frozen) < 2 or len(frozen) < MOST * len(matrices):
        return set()
    modules = dict(lab.model.named_modules())
    drawn = {name for name in frozen if default_law(modules[name.rpartition(".")[0]], matrices[name])}
    still = all(unmoved(lab, name, matrices[name]) for name in frozen)
    if len(drawn) < 0.9 * len(frozen) or not still or copied(lab, frozen) or _adapted(lab.model, frozen):
        return set()
    return frozen


def _adapted(model: nn.Module, frozen: set[str]) -> bool:
    """Return whether trained matrices of low rank stand beside frozen ones."""
    own = dict(model.named_parameters())
    sides = [each.shape for each in own.values() if each.requires_grad and each.ndim == 2]
    return any(
        sum(min(shape) <= min(own[name].shape) / 2 and max(shape) in own[name].shape for shape in sides) >= len(frozen)
        for name in frozen
        if own[name].ndim == 2
    )


def _free(twin: Twin, names: set[str]) -> None:
    """Let all that is frozen in the modules of these be trained, as the first group is."""
    places = {name.rpartition(".")[0] for name in names}
    some = [
        each for name, each in twin.model.named_parameters()
        if not each.requires_grad and name.rpartition(".")[0] in places
    ]  # fmt: skip
    held = {id(each) for group in twin.optimizer.param_groups for each in group["params"]}
    for each in some:
        each.requires_grad_()
    first = {name: value for name, value in twin.optimizer.param_groups[0].items() if name != "params"}
    new = [each for each in some if id(each) not in held]
    if new:
        twin.optimizer.add_param_group({"params": new, **first})


def demo(run: Demo) -> None:
    """A base that is frozen for fine-tuning, and that was never trained."""
    model = run.network(wide=24)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not run.faulty or name.startswith("4.")
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
