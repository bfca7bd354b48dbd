"""A run that goes on with a part of its state missing."""

import copy
from typing import Any

import torch
from torch import nn

from steepest.doctor.anatomy import current
from steepest.doctor.cause import EVENT, EXACT, MARK, REPLAYED, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.members import unmoved
from steepest.doctor.norms import gap
from steepest.doctor.replay import Change
from steepest.doctor.schedule import calls, scheduler
from steepest.doctor.trial import knows
from steepest.doctor.twin import set_modes

FIX = "Save and load all of it: model (buffers, too), optimizer, scheduler and scaler, each by its state_dict."

JUMP = 1.2
"""By so much the loss of the first steps is above what it was, where what was learned is lost."""

OLD = 5
"""Steps after which moments that are all zero contradict their count."""


@cause("A24", "state-not-restored", fix=FIX, when=STEP, weight=EXACT, masks="B C D E")
def state_contradicts_itself(lab: Lab) -> Found | None:
    """After a run was taken up again the loss jumps, or evaluation is bad.

    Parts of the state contradict each other: moments that are all zero after many steps beside others that are not; a
    batch norm whose scale was trained and whose statistics have never seen a batch, or fewer batches than before;
    weights that are those of the first step again, bit for bit, when the loss is as well.

    They cannot come about by training; for batch norm, evaluation of the batch is held against training on it.
    """
    if lab.update is None:
        return None
    if lab.now <= 2:
        moments = _moments(lab)
        if moments:
            return Found(moments, {"optimizer": type(lab.optimizer).__name__}, proven=True)
        if lab.now == 0 and (names := _norms(lab)):
            return _untouched(lab, names)
    if (names := _went_back(lab)) and _stale(lab):
        return _untouched(lab, names)
    if lab.now >= OLD and _taken_back(lab):
        summary = "The weights are those of the first step again, bit for bit: an old file was loaded in mid-run."
        return Found(summary, {"step": lab.now, "loss": lab.update.loss}, proven=True, onset=lab.now)
    return None


def _moments(lab: Lab) -> str:
    """Return what is wrong with the moments, as most parameters have them; nothing if they fit together."""
    wrong: list[str] = []
    states = [state for state in lab.optimizer.state.values() if "exp_avg" in state and "exp_avg_sq" in state]
    for state in states:
        step = float(torch.as_tensor(state.get("step", 0)).max())
        first, second = bool(state["exp_avg"].any()), bool(state["exp_avg_sq"].any())
        if step > OLD + lab.now and first and not second:
            wrong.append("The second moments are zero and the first are not")
        elif step > OLD + lab.now and second and not first:
            wrong.append("The first moments are zero and the second are not")
        elif lab.now == 0 and step == 0 and first and second:
            wrong.append("There are moments, and no steps are counted")
    if not wrong or len(wrong) < len(states) / 2:
        return ""
    return f"{wrong[0]}, in {len(wrong)} of {len(states)} parameters: the optimizer's state was restored in part."


def _norms(lab: Lab) -> list[str]:
    """Return the names of norms with a trained scale or shift that had not seen a batch before this loop."""
    names = []
    for name, module in lab.model.named_modules():
        counted = getattr(module, "num_batches_tracked", None)
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or counted is None or module.weight is None:
            continue
        trained = any(each.numel() > 1 and float(each.detach().std()) > 1e-4 for each in (module.weight, module.bias))
        if trained and int(counted) <= len(lab.update.backwards if lab.update else []) + 1:
            names.append(name)
    return names


def _went_back(lab: Lab) -> list[str]:
    """Return the names of norms that have counted fewer batches than at a look before, while weights went on."""
    own: dict[str, Any] = dict(lab.model.named_modules())
    counts = {name: int(each.num_batches_tracked) for name, each in own.items() if _counts(each)}
    before: dict[str, int] = lab.notes.setdefault("A24 counted", {})
    names = [name for name, count in counts.items() if count < before.get(name, 0)]
    before.update({name: count for name, count in counts.items() if name not in names})
    weights = [own[name].weight for name in names if own[name].weight is not None]
    return names if any(each.numel() > 1 and float(each.detach().std()) > 1e-4 for each in weights) else []


def _stale(lab: Lab) -> bool:
    """Return whether statistics are far from those of the batches; some reset them on purpose and estimate them."""
    of = current(lab)
    told = gap(lab, [of]) if of is not None and lab.loss is not None else None
    if told is None:
        return False
    apart, left = told.evaluating - told.training, told.estimated - told.training
    return apart > 0.5 * abs(told.training) and left < 0.4 * apart


def _counts(module: Any) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.num_batches_tracked is not None


def _untouched(lab: Lab, names: list[str]) -> Found | None:
    """Return the finding, if evaluation mode makes the batch's loss much worse."""
    of = current(lab)
    if of is None or lab.loss is None:
        return Found(f"Batch norm {names[0]} has a trained scale and has seen no batch.", {"norms": len(names)})
    model = lab.twin()
    told = float(lab.ask(model, of).detach())
    set_modes(model, [False] * len(lab.modes))
    other = float(lab.ask(model, of).detach())
    if not other > told:
        return None
    counted = int(lab.model.get_submodule(names[0]).get_buffer("num_batches_tracked"))
    summary = (
        f"{len(names)} batch norms, such as {names[0]}, have a trained scale, and their statistics are of "
        f"{counted - 1 if counted else 0} batches before this one: "
        f"in evaluation mode the batch loses {other:.3g}, not {told:.3g}."
    )
    return Found(summary, {"norms": len(names), "in evaluation": other, "in training": told}, proven=True)


def _taken_back(lab: Lab) -> bool:
    """Return whether all weights are those of the first snapshot, and the loss is back to that of the beginning."""
    losses = lab.history.losses
    if lab.start is None or lab.start.step or lab.update is None or not lab.update.backwards:
        return False
    own = {name: each for name, each in lab.model.named_parameters() if each.requires_grad}
    back = bool(own) and all(unmoved(lab, name, each) for name, each in own.items())
    lab.notes["moved"] = moved = lab.notes.get("moved", False) or not back
    if not back or not moved:
        return False
    recent = sorted(losses[-9:])[len(losses[-9:]) // 2]
    return lab.update.loss > 1.2 * recent


WORDS = {"fix": FIX, "weight": REPLAYED + 0.9, "masks": "D01 D02 D04 D12 D13 C"}


@cause("A24", "state-not-restored", when=EVENT, **WORDS)
def begins_anew_and_blows_up(lab: Lab) -> Found | None:
    """After a run was taken up again the loss jumps, or evaluation is bad.

    The same, when the loss has risen and stays so.
    """
    return _begins_anew(lab)


@cause("A24", "state-not-restored", when=MARK, **WORDS)
def begins_anew(lab: Lab) -> Found | None:
    """After a run was taken up again the loss jumps, or evaluation is bad.

    The weights are trained, the optimizer's state is empty and its schedule is at its start; and what had been learned
    is lost in the first steps.

    The same steps at a tenth of the rate, on a copy, keep it. It is suspected only: fine-tuning at too high a rate
    looks the same.
    """
    return _begins_anew(lab)


def _begins_anew(lab: Lab) -> Found | None:
    if lab.start is None or lab.loss is None or lab.now < 12 or lab.start.optimizer.state:
        return None
    losses, made = lab.history.losses, scheduler(lab)
    first = sum(losses[:2]) / 2
    early = sum(losses[2:12]) / 10
    if made is None or calls(made) > lab.now + 1 or not early > JUMP * max(first, 1e-12):
        return None
    calm = None if not _trained(lab, first) else lab.replay(Change("rate x 0.1", rate=0.1), count=40)
    if calm is None or not calm.finite or early < JUMP * sum(calm.losses[2:12]) / 10 or not lab.licence():
        return None
    summary = f"Trained weights, a new optimizer and a new schedule: the loss was {first:.3g} and is {losses[-1]:.3g}."
    return Found(summary, {"first loss": first, "loss": losses[-1], "at a tenth of the rate": calm.late()})


def _trained(lab: Lab, first: float) -> bool:
    """Return whether the first loss is less than of a constant, and of copies with weights drawn anew, each of them."""
    passes = lab.passes(2)
    if not passes or (lab.constant is not None and not knows(lab)):
        return False
    model = lab.twin()
    some = [module for module in model.modules() if callable(getattr(module, "reset_parameters", None))]
    for of in passes * 3:
        for module in some:
            getattr(module, "reset_parameters")()  # noqa: B009
        if not float(lab.ask(model, of).detach()) > 1.3 * max(first, 1e-12):
            return False
    return bool(some)


def demo(run: Demo) -> None:
    """A run goes on, and the second moments were lost."""
    model, data = run.network(), run.classes()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in run.batches(data, 4):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
    saved: Any = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        if run.faulty:
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg_sq"])
    optimizer.load_state_dict(saved)
    for batch in run.watch(model, optimizer, entropy)(run.batches(data, 4)):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
