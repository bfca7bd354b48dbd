"""Laws of options: each does what it says, and a misspelt one is not swallowed."""

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler

from steepest.testing.comparing import formula_path, must_be_near, must_equal, same
from steepest.testing.law import Broken, NotApplicable, law, sentence
from steepest.testing.subject import PATHS, Subject
from steepest.testing.trial import Course, Trial, course, parameters

# Options that say how the step is computed, not what it is.
MEANS = (*PATHS, "capturable", "differentiable")
NUMBERS = (0.0, 1.0, 0.1, 0.5, 0.9, 1e-3, 2.0, 100.0)


@law
def unknown_keyword_is_refused(subject: Subject) -> None:
    """A keyword that the constructor does not know raises instead of being swallowed."""
    try:
        subject.build([Subject.blank((3, 2))], no_such_option=0.5)
    except Exception:
        return
    raise Broken("no_such_option=0.5 is accepted: a misspelt option would train with the default")


@law
def bad_rate_is_refused(subject: Subject) -> None:
    """A learning rate that is negative or NaN raises when the optimizer is built."""
    subject.rate  # noqa: B018 - not applicable without a rate
    for rate in (-0.1, float("nan")):
        try:
            subject.build([Subject.blank((3, 2))], lr=rate)
        except Exception:
            continue
        raise Broken(f"lr={rate} is accepted")


@law
def every_option_acts(subject: Subject) -> str | None:
    """Every option of the constructor changes the path or the state, as the reference says if there is one."""
    plan = telling_course(subject)
    untried = []
    for name in subject.keywords:
        if name in MEANS:
            continue
        verdict = try_option(subject, plan, name)
        if verdict is None:
            untried.append(name)
        elif not verdict:
            raise Broken(f"{name} does nothing: every value that was tried gives the same path and state")
    return f"no second value known for {', '.join(untried)}" if untried else None


def telling_course(subject: Subject) -> Course:
    """Gradients that shrink and turn round, so that maxima, decays and corrections all show."""
    plan = course(subject, [*subject.shapes((9,)), (6, 4)])
    shrink = [1.0, 2.0**-8, 1.0, 2.0**-10, 2.0**-9, 1.0]
    return Course(plan.start, [[g * by for g in row] for row, by in zip(plan.gradients, shrink, strict=True)])


def try_option(subject: Subject, plan: Course, name: str) -> bool | None:
    """Whether another value of this option makes a difference; None if no other value is known to be valid.

    Some options act only beside another one (nesterov beside momentum) or only in low precision or on a gradient that
    is not finite, so where the option alone makes no difference it is tried in those settings too.
    """
    valid = False
    for setting, dtype, broken in settings(subject, name):
        usual = outcome(subject, plan, setting, dtype, broken)
        if usual is None:
            continue
        for value in alternatives(subject, name):
            changed = outcome(subject, plan, {**setting, name: value}, dtype, broken)
            if changed is None:
                continue
            valid = True
            if changed.keys() != usual.keys() or not all(same(changed[key], usual[key]) for key in usual):
                if dtype == torch.float64 and not broken:
                    must_match_reference(subject, plan, {**setting, name: value})
                return True
    return False if valid else None


def settings(subject: Subject, name: str) -> Iterator[tuple[dict[str, Any], torch.dtype, bool]]:
    """Circumstances in which an option may show: other options, dtype, whether a gradient is NaN."""
    yield {}, torch.float64, False
    yield {}, torch.bfloat16, False
    yield {}, torch.float32, True
    for other in subject.keywords:
        if other not in (name, *MEANS):
            for value in alternatives(subject, other)[:3]:
                yield {other: value}, torch.float64, False


def outcome(
    subject: Subject, plan: Course, options: dict[str, Any], dtype: torch.dtype, broken: bool
) -> dict[str, Any] | None:
    """Parameters and state after the course with these options; None if they are not valid."""
    gradients = [list(row) for row in plan.gradients]
    if broken:
        gradients[2][0] = gradients[2][0] * torch.nan
    try:
        trial = Trial(subject, parameters(plan.start, dtype), **options).run(gradients)
    except (NotApplicable, Broken) as error:
        named = [name for name, value in options.items() if isinstance(value, bool)]
        if isinstance(error, Broken) and named and set(named) == set(options):
            raise Broken(f"{named[-1]}={options[named[-1]]} is accepted, but {error}") from error
        return None
    state = {path: value for path, value in trial.state().items() if path.startswith("state")}
    return {**{str(index): value for index, value in enumerate(trial.raw())}, **state}


def alternatives(subject: Subject, name: str) -> list[Any]:
    """Other values that an option may have, the plainest first."""
    value = subject.options.get(name, subject.defaults.get(name, subject.keywords[name].default))
    named = literals(subject.keywords[name].annotation)
    if isinstance(value, bool):
        return [not value]
    if named:
        return [other for other in named if other != value]
    if isinstance(value, int | float):
        near = [type(value)(value * factor) for factor in (0.5, 2.0)]
        return [other for other in (*near, *(type(value)(number) for number in NUMBERS)) if other != value]
    if isinstance(value, tuple):
        numbers = [[n / 2 if isinstance(n, int | float) else 0.5, *NUMBERS] for n in value]
        return [(*value[:i], n, *value[i + 1 :]) for i, row in enumerate(numbers) for n in row if n != value[i]]
    if value is None or value is inspect.Parameter.empty:
        return [*NUMBERS, True, torch.bfloat16]
    return []


def literals(annotation: Any) -> list[Any]:
    """The values of every Literal in an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [value for part in typing.get_args(annotation) for value in literals(part)]


def must_match_reference(subject: Subject, plan: Course, options: dict[str, Any]) -> None:
    """Raise `Broken` unless the reference takes the same path with these options."""
    if subject.reference is None:
        return
    found = Trial(subject, parameters(plan.start), **options).run(plan.gradients).values()
    said = ", ".join(f"{key}={value}" for key, value in options.items())
    must_be_near(found, formula_path(subject, plan, **options)[-1], f"{said} against the reference")


@law
def maximize_is_minimize_of_the_opposite(subject: Subject) -> None:
    """`maximize=True` takes exactly the steps that the negated gradients give."""
    if not subject.takes_option("maximize"):
        raise NotApplicable("it has no maximize option")
    plan = course(subject, subject.shapes((9, 17)))
    decay = subject.only(weight_decay=0.1)
    up = Trial(subject, parameters(plan.start), maximize=True, **decay).run(plan.gradients)
    down = Trial(subject, parameters(plan.start), maximize=False, **decay)
    down.run([[-g for g in row] for row in plan.gradients])
    must_be_near(up.values(), down.values(), "maximize=True against negated gradients")


@law
def rate_zero_moves_nothing(subject: Subject) -> None:
    """With a learning rate of zero, and no decay, no parameter changes."""
    subject.rate  # noqa: B018 - not applicable without a rate
    plan = course(subject, subject.shapes((9, 17)))
    values = parameters(plan.start)
    trial = Trial.of(values, subject.make(values, **subject.undecayed))
    set_rate(trial, 0.0)
    trial.run(plan.gradients)
    must_equal(trial.values(), plan.start, "after six steps at a learning rate of zero")


@law
def rate_change_takes_effect(subject: Subject) -> None:
    """A rate written into param_groups counts from the next step on."""
    plan = course(subject, subject.shapes((9, 17)), steps=4)
    usual = Trial(subject, parameters(plan.start), **subject.undecayed).run(plan.gradients[:2])
    other = Trial(subject, parameters(plan.start), **subject.undecayed).run(plan.gradients[:2])
    set_rate(other, subject.rate / 2)
    usual.step(plan.gradients[2])
    other.step(plan.gradients[2])
    unchanged = [bool((a == b).all()) for a, b in zip(usual.values(), other.values(), strict=True)]
    if any(unchanged):
        raise Broken(f"halving lr in param_groups changes nothing in the next step (lr {subject.rate:g})")


def set_rate(trial: Trial, rate: float) -> None:
    """Write the rate into every group, as a scheduler does."""
    for group in trial.optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@law
def schedulers_work(subject: Subject) -> None:
    """LambdaLR and OneCycleLR drive it, with the effect of writing the same values into its groups."""
    rate = subject.rate
    plan = course(subject, subject.shapes((9, 17)), steps=5)
    cycles = "momentum" in subject.defaults or "betas" in subject.defaults
    makers = {
        "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
        "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=rate, total_steps=6, cycle_momentum=cycles),
    }
    for name, make in makers.items():
        driven, manual = Trial(subject, parameters(plan.start)), Trial(subject, parameters(plan.start))
        try:
            schedule = make(driven.optimizer)
        except Exception as error:
            raise Broken(f"{name} cannot be built on it: {sentence(error)}") from error
        for gradients in plan.gradients:
            for source, target in zip(driven.optimizer.param_groups, manual.optimizer.param_groups, strict=True):
                target.update({key: source[key] for key in ("lr", "momentum", "betas") if key in target})
            driven.step(gradients)
            manual.step(gradients)
            schedule.step()
        must_be_near(driven.values(), manual.values(), f"{name} against the same rates by hand")
