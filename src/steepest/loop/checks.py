"""Checks of what a user gives to a run; each failure is one sentence that says what to do."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from steepest.loop.budget import ENDLESS


def check_model(model: Any) -> None:
    """Raise TypeError unless the model is a module."""
    if not isinstance(model, nn.Module):
        hint = " Make one: pass model(), not the class." if isinstance(model, type) else ""
        raise TypeError(f"The model is a torch.nn.Module; received {_named(model)}.{hint}")


def check_loss_function(loss: Any) -> None:
    """Raise TypeError unless the loss can be called as loss(model, batch)."""
    if not callable(loss) or type(loss).__module__.startswith("torch.nn."):
        raise TypeError(
            f"The loss is a function loss(model, batch) that returns a scalar tensor; received {_named(loss)}. Write "
            "for example: def loss(model, batch): x, y = batch; return torch.nn.functional.mse_loss(model(x), y)"
        )


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError unless the optimizer is one."""
    if isinstance(optimizer, type):
        raise TypeError(
            f"The optimizer is the class {optimizer.__name__}; pass one that is made for the model: "
            f"{optimizer.__name__}(model.parameters(), lr=...)."
        )
    if not all(hasattr(optimizer, name) for name in ("step", "zero_grad", "param_groups")):
        raise TypeError(f"The optimizer is a torch.optim.Optimizer; received {_named(optimizer)}.")


def check_schedule(schedule: Any, steps: int) -> None:
    """Raise TypeError unless the schedule gives a number for the first step."""
    if not callable(schedule) or isinstance(schedule, torch.optim.lr_scheduler.LRScheduler):
        raise TypeError(
            "The schedule is a function schedule(step, steps) that returns the factor of the learning rate, as those "
            f"of steepest.schedules; received {_named(schedule)}."
        )
    factor = schedule(0, steps)
    if not isinstance(factor, int | float):
        raise TypeError(f"The schedule returns the factor of the learning rate, a number; received {_named(factor)}.")


def check_open_schedule(schedule: Any) -> None:
    """Raise ValueError for a schedule in parts of a run that has no length."""
    short, long = 1_000_000, ENDLESS
    if any(schedule(step, short) != schedule(step, long) for step in (0, 100, 10_000)):
        raise ValueError(
            f"The schedule {schedule!r} is in parts of the run, and a run without a budget has no length: count its "
            "steps, as warmup(100) does, or give steps=. The rate falls to zero at the end in any case."
        )


def check_seed(seed: Any) -> None:
    """Raise unless the seed is a whole number that every generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is a whole number, 0 or more, below 2**63; received {seed!r}.")


def check_resume(resume: Any) -> None:
    """Raise ValueError unless it says whether to go on with a run."""
    if resume not in ("auto", "never"):
        raise ValueError(f'resume is "auto" or "never"; received {resume!r}.')


def check_repair(repair: Any) -> None:
    """Raise ValueError unless it says whether the doctor watches, and what it may do."""
    if repair not in (None, "off", "ask", "auto"):
        raise ValueError(
            'repair is "off", for a doctor that watches and says what it finds, "auto" or "ask", for one that also '
            f"repairs what a replay proves it can, or None; received {repair!r}."
        )


def check_evaluation(val: Any, every: Any, patience: Any) -> None:
    """Raise ValueError unless the two are whole numbers, for a val that is there."""
    for name, value in (("evaluate_every", every), ("patience", patience)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a whole number, 1 or more, or None; received {value!r}.")
        if val is None:
            raise ValueError(f"{name}= is about the evaluation on val=, and there is no val=.")


def check_device(device: Any) -> None:
    """Raise ValueError unless tensors can be made on the device."""
    try:
        found = torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # what torch raises for one that is unknown, or missing
        reason = str(error).splitlines()[0] if str(error) else "it is not there"
        raise ValueError(f"device={str(device)!r} cannot be used: {reason}") from None
    if found.type == "meta":
        raise ValueError("device='meta' holds no numbers, so nothing can be trained there; name another, as 'cpu'.")


def check_clip(clip: Any) -> None:
    """Raise unless clip is None or a positive number."""
    if clip is not None and not (isinstance(clip, int | float) and clip > 0):
        raise ValueError(f"clip is the largest norm that the gradient may have, above 0, or None; received {clip!r}.")


def split_outputs(outputs: Any, samples: int) -> tuple[torch.Tensor, dict[str, Any], Any]:
    """Return the loss, the other numbers that a loss function returned, and what they weigh beside other batches.

    The weight is the number of samples, unless the function says otherwise; raise a sentence for anything else.
    """
    if not isinstance(outputs, dict):
        return outputs, {}, samples
    if "loss" not in outputs:
        raise ValueError(f'The loss function returned a dict without the key "loss": {sorted(map(str, outputs))}.')
    others = {name: _detached(value) for name, value in outputs.items() if name not in ("loss", "weight")}
    weight = _detached(outputs.get("weight", samples))
    if not isinstance(weight, int | float) and not (isinstance(weight, torch.Tensor) and weight.numel() == 1):
        raise TypeError(f'"weight" is how much the loss counts beside other batches, a number; received {weight!r}.')
    return outputs["loss"], others, weight


def check_loss(loss: Any) -> None:
    """Raise unless gradients can be computed from the loss."""
    if not isinstance(loss, torch.Tensor):
        raise TypeError(
            f"The loss function returned {_named(loss)}; expected a scalar tensor, which carries the way back to the "
            "weights. Leave out .item(), float() or .numpy(), and do not forget the return."
        )
    if loss.numel() != 1:
        raise ValueError(f"The loss has shape {list(loss.shape)}; expected one number. Average it: return loss.mean().")
    if not loss.requires_grad:
        raise ValueError(
            "The loss does not require a gradient, so no weight can learn from it. Look for torch.no_grad, .detach(), "
            ".data or .item() on the way from the model to the loss, or for a model with all weights frozen."
        )


def check_metrics(metrics: Any, val: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Return the metrics as a dict from name to function; raise for anything else, and when there is no val."""
    if metrics is None:
        return {}
    if not isinstance(metrics, dict) or not all(callable(function) for function in metrics.values()):
        raise TypeError(f"metrics is a dict from name to function(model, batch); received {metrics!r}.")
    if val is None:
        raise ValueError("metrics= are computed on val=, and there is no val=.")
    return metrics


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def _named(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
