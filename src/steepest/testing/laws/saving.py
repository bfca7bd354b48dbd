"""Laws of state: a run that is saved, loaded, copied or rolled back goes on as if nothing had happened."""

import copy
import io
import pickle
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from steepest.testing.comparing import must_be_same, must_equal
from steepest.testing.law import Broken, NotApplicable, law, sentence
from steepest.testing.subject import Subject
from steepest.testing.trial import Trial, course, leaves, parameters

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float16)


def half_way(subject: Subject) -> tuple[Trial, list[list[Tensor]]]:
    """A trial after three steps on parameters of four dtypes, and the gradients of the next three."""
    plan = course(subject, subject.shapes((17, 5, 8, 1)))
    mixed = [Parameter(value.to(dtype)) for value, dtype in zip(plan.start, DTYPES, strict=True)]
    return Trial(subject, mixed).run(plan.gradients[:3]), plan.gradients[3:]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state dict as it comes back from disk, where no code may run."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        raise Broken(f"the saved state does not load with weights_only=True: {sentence(error)}") from error


def load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that must be accepted."""
    try:
        optimizer.load_state_dict(state)
    except Exception as error:
        raise Broken(f"load_state_dict of its own state raised {sentence(error)}") from error


@law
def resume_is_exact(subject: Subject) -> None:
    """A run saved to a file after step 3 and loaded into a new optimizer goes on bit for bit."""
    trial, rest = half_way(subject)
    for group in trial.optimizer.param_groups:
        if isinstance(group.get("lr"), float):
            group["lr"] /= 2  # what a schedule changed belongs to the run
    saved = through_a_file(trial.optimizer.state_dict())
    values = [Parameter(value) for value in trial.raw()]
    resumed = Trial.of(values, subject.make(values), trial.steps_done)
    load(resumed.optimizer, saved)
    must_equal(resumed.run(rest).raw(), trial.run(rest).raw(), "after resuming at step 3")


@law
def state_dtype_survives(subject: Subject) -> None:
    """Saving and loading leaves every state tensor in its dtype; a parameter of another dtype is not passed over."""
    trial, _ = half_way(subject)
    saved = through_a_file(trial.optimizer.state_dict())
    before = dtypes_of(saved)
    if not before:
        raise NotApplicable("it keeps no state tensors")
    values = [Parameter(value) for value in trial.raw()]
    again = subject.make(values)
    load(again, saved)
    must_be_same(dtypes_of(again.state_dict()), before, "after loading")
    wider = [Parameter(value.double()) for value in trial.raw()]
    other = subject.make(wider)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            other.load_state_dict(saved)
        except Exception:
            return  # it refuses: nothing was silently converted
    if not said:
        must_be_same(dtypes_of(other.state_dict()), before, "loaded for float64 parameters without a word")


def dtypes_of(state: dict[str, Any]) -> dict[str, str]:
    """The dtype of every state tensor that has a value for each element, or for some."""
    found = leaves(state["state"])
    return {path: str(value.dtype)[6:] for path, value in found if isinstance(value, Tensor) and value.dim() > 0}


@law
def wrong_shape_is_refused(subject: Subject) -> None:
    """State of a parameter of another shape is refused when it is loaded, not at some later step."""
    plan = course(subject, [(4, 6)], steps=2)
    trial = Trial(subject, parameters(plan.start)).run(plan.gradients)
    saved = trial.optimizer.state_dict()
    if not dtypes_of(saved):
        raise NotApplicable("it keeps no state tensors")
    other = subject.make(parameters([torch.zeros(5, 7)]))
    try:
        other.load_state_dict(copy.deepcopy(saved))
    except Exception:
        return
    raise Broken("the state of a (4, 6) parameter loads for a (5, 7) parameter without an error")


@law
def state_goes_by_name(subject: Subject) -> None:
    """Named parameters given in another order get their own state back, or loading is refused."""
    plan = course(subject, subject.shapes((9, 9)))
    values = parameters(plan.start, torch.float32)
    names = ["weight", "bias"]
    trial = Trial.of(values, subject.make(zip(names, values, strict=True)))
    trial.run(plan.gradients[:3])
    saved = trial.optimizer.state_dict()
    if not dtypes_of(saved):
        raise NotApplicable("it keeps no state tensors")
    turned = [Parameter(value) for value in trial.raw()]
    other = subject.make([("bias", turned[1]), ("weight", turned[0])])
    try:
        other.load_state_dict(copy.deepcopy(saved))
    except Exception:
        return
    what = "named parameters in another order load without an error"
    for index in range(2):
        must_equal(Trial.of(turned, other).own_state(index), trial.own_state(index), f"{what}; state")
    resumed = Trial.of(turned, other, trial.steps_done).run(plan.gradients[3:])
    must_equal(resumed.raw(), trial.run(plan.gradients[3:]).raw(), f"{what}; after three more steps")


@law
def rollback_is_exact(subject: Subject) -> None:
    """Loading an earlier state into the running optimizer, weights put back in place, repeats the steps exactly."""
    trial, rest = half_way(subject)
    saved, weights = copy.deepcopy(trial.optimizer.state_dict()), trial.raw()
    target = trial.run(rest).raw()
    load(trial.optimizer, saved)
    with torch.no_grad():
        for parameter, value in zip(trial.parameters, weights, strict=True):
            parameter.copy_(value)
    trial.steps_done -= len(rest)
    must_equal(trial.run(rest).raw(), target, "after rolling back three steps")


@law
def deepcopy_continues(subject: Subject) -> None:
    """A deep copy of parameters and optimizer goes on like the original, and without touching it."""
    trial, rest = half_way(subject)
    duplicate(trial, rest, copy.deepcopy, "the deep copy")


@law
def pickle_continues(subject: Subject) -> None:
    """Parameters and optimizer through pickle go on like the original, and without touching it."""
    trial, rest = half_way(subject)
    duplicate(trial, rest, lambda pair: pickle.loads(pickle.dumps(pair)), "the unpickled one")


def duplicate(trial: Trial, rest: list[list[Tensor]], make: Any, what: str) -> None:
    """Raise `Broken` unless a duplicate goes on like the original and leaves it alone."""
    try:
        values, optimizer = make((trial.parameters, trial.optimizer))
    except Exception as error:
        raise Broken(f"making {what} raised {sentence(error)}") from error
    before = trial.state()
    other = Trial.of(values, optimizer, trial.steps_done)
    found = other.run(rest).raw()
    must_be_same(trial.state(), before, f"stepping {what} changed the original's state")
    must_equal(found, trial.run(rest).raw(), what)
