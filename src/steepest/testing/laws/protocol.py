"""Laws of manners: what the rest of PyTorch expects of an optimizer's step."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from steepest.testing.comparing import must_be_same, must_equal
from steepest.testing.law import Broken, law, sentence
from steepest.testing.subject import Subject, step_with
from steepest.testing.trial import Trial, course, parameters, stride


@law
def gradients_are_untouched(subject: Subject) -> None:
    """The step leaves every gradient as it was, to the bit, and in its place."""
    plan = course(subject, subject.shapes((9, 17)))
    for dtype in (torch.float32, torch.bfloat16):
        trial = Trial(subject, parameters(plan.start, dtype), **subject.only(weight_decay=0.1))
        for gradients in plan.gradients:
            trial.step(gradients)
            for parameter, gradient in zip(trial.parameters, gradients, strict=True):
                if parameter.grad is None:
                    raise Broken("the step sets p.grad to None")
                must_equal([parameter.grad], [gradient.to(dtype)], f"p.grad after step {trial.steps_done}")


@law
def gradients_are_not_borrowed(subject: Subject) -> None:
    """Nothing of a gradient's memory is kept: zeroing it in place after the step changes nothing."""
    plan = course(subject, subject.shapes((9, 17)))
    target = Trial(subject, parameters(plan.start)).run(plan.gradients)
    trial = Trial(subject, parameters(plan.start))
    for gradients in plan.gradients:
        trial.step(gradients)
        trial.optimizer.zero_grad(set_to_none=False)
    must_equal(trial.values(), target.values(), "gradients zeroed in place after each step")


@law
def closure_is_called(subject: Subject) -> None:
    """The closure runs with gradients enabled and before gradients are read, and its value is returned."""
    plan = course(subject, subject.shapes((9,)))
    trial = Trial(subject, parameters(plan.start)).run(plan.gradients[:2])
    trial.parameters[0].grad = None
    before = trial.values()[0]
    enabled: list[bool] = []

    def closure() -> Tensor:
        enabled.append(torch.is_grad_enabled())
        trial.parameters[0].grad = plan.gradients[2][0].clone()
        return torch.tensor(42.0)

    try:
        with torch.no_grad():
            value = trial.optimizer.step(closure)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except Exception as error:
        raise Broken(f"step(closure) raised {sentence(error)}") from error
    if not enabled:
        raise Broken("step(closure) does not call the closure")
    if not all(enabled):
        raise Broken("the closure runs with gradients disabled: loss.backward() in it would fail")
    if value is None or float(value) != 42.0:
        raise Broken(f"step(closure) returns {value!r} and not the closure's value")
    if bool((trial.values()[0] == before).all()):
        raise Broken("the gradient that the closure left is not used in that step")


@law
def hooks_fire(subject: Subject) -> None:
    """Hooks registered before and after the step run once in each step."""
    plan = course(subject, subject.shapes((9,)))
    trial = Trial(subject, parameters(plan.start))
    calls: list[str] = []
    trial.optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    trial.optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    trial.run(plan.gradients[:2])
    if calls != ["before", "after"] * 2:
        raise Broken(f"two steps ran the hooks as {calls}, expected before, after, before, after")


@law
def skipped_step_leaves_no_trace(subject: Subject) -> None:
    """A step that GradScaler finds to have an infinite gradient leaves no trace, even if it is the first."""
    plan = course(subject, subject.shapes((9, 17)))
    for skipped in (0, 3):
        target = Trial(subject, parameters(plan.start, torch.float32)).run(plan.gradients)
        trial = Trial(subject, parameters(plan.start, torch.float32))
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for index, gradients in enumerate(plan.gradients):
            if index == skipped:
                before = trial.raw(), trial.state()
                bad = [gradient.clone() for gradient in gradients]
                bad[1][...] = torch.inf
                scaled_step(trial, scaler, bad)
                must_equal(trial.raw(), before[0], f"parameters after a skipped step {index + 1}")
                if index:  # before the first step state may still have to be made
                    must_be_same(trial.state(), before[1], f"after a skipped step {index + 1}, the state dict")
            scaled_step(trial, scaler, gradients)
        must_equal(trial.raw(), target.raw(), f"a run whose step {skipped + 1} was skipped and taken again")


def scaled_step(trial: Trial, scaler: torch.amp.GradScaler, gradients: list[Tensor]) -> None:
    """One step through the scaler, with gradients scaled as `scaler.scale(loss).backward()` would."""
    factor = scaler.scale(torch.ones(()))
    for parameter, gradient in zip(trial.parameters, gradients, strict=True):
        parameter.grad = (gradient * factor).to(parameter.dtype)
    torch.default_generator.manual_seed(1000 + trial.steps_done)
    # Memory that is never written shows as NaN, instead of as whatever lay there.
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        scaler.step(trial.optimizer)
    except Exception as error:
        raise Broken(f"GradScaler.step raised {sentence(error)}") from error
    finally:
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
    scaler.update()
    if all(bool(gradient.isfinite().all()) for gradient in gradients):
        trial.steps_done += 1


@law
def no_graph_is_kept(subject: Subject) -> None:
    """Neither parameters nor state hold on to an autograd graph, even when gradients have one."""
    plan = course(subject, subject.shapes((9,)))
    trial = Trial(subject, parameters(plan.start))
    for row in plan.gradients[:2]:
        leaf = row[0].clone().requires_grad_()

        def prepare(gradient: Tensor = leaf * 1.0) -> None:
            trial.parameters[0].grad = gradient

        try:
            step_with(trial.optimizer, prepare)
        except Exception as error:
            raise Broken(f"a step with a gradient that has a graph raised {sentence(error)}") from error
    parameter = trial.parameters[0]
    if not parameter.is_leaf or not parameter.requires_grad:
        raise Broken("after the step the parameter is no longer a leaf that requires grad")
    for name, value in flat(trial.optimizer.state.get(parameter, {})):
        if isinstance(value, Tensor) and value.requires_grad:
            raise Broken(f"the state {name!r} requires grad: it keeps the graph of every step alive")


def flat(state: Any) -> list[tuple[str, Any]]:
    """The entries of one parameter's state."""
    return list(state.items()) if isinstance(state, dict) else []


@law
def autograd_sees_the_step(subject: Subject) -> None:
    """A graph that saved the parameter before the step raises in backward after it, instead of using new values."""
    plan = course(subject, subject.shapes((9,)))
    trial = Trial(subject, parameters(plan.start))
    parameter: Parameter = trial.parameters[0]
    stale = (parameter * parameter).sum()
    trial.step(plan.gradients[0])
    try:
        stale.backward()
    except RuntimeError:
        return
    raise Broken("backward through a loss from before the step runs, silently, with the weights from after it")


@law
def descends(subject: Subject) -> None:
    """A hundred steps on a convex quadratic bring its loss down."""
    start = course(subject, subject.shapes((9, 17))).start
    curvature = [torch.linspace(0.5, 2.0, value.numel(), dtype=torch.float64).reshape(value.shape) for value in start]
    unit = stride(subject)  # the loss is scaled so that gradients are about 1 at the start
    trial = Trial(subject, parameters(start), **subject.undecayed)

    def loss() -> float:
        return float(sum((c * p.detach() ** 2).sum() for c, p in zip(curvature, trial.parameters, strict=True)))

    first = loss()
    sign = -1 if trial.optimizer.param_groups[0].get("maximize") else 1
    for _ in range(100):
        trial.step([sign * c * p.detach() / unit for c, p in zip(curvature, trial.parameters, strict=True)])
    last = loss()
    if not last < 0.99 * first:
        raise Broken(f"the loss goes from {first:.4g} to {last:.4g}")
