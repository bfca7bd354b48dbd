"""The law that every option does something: other values for it, and the circumstances in which it may show."""

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from steepest.testing.comparing import formula_path, must_be_near, same
from steepest.testing.law import Broken, NotApplicable, law
from steepest.testing.subject import PATHS, Subject
from steepest.testing.trial import Course, Trial, course, parameters

# Options that say how the step is computed, not what it is.
MEANS = (*PATHS, "capturable", "differentiable")
NUMBERS = (0.0, 1.0, 0.1, 0.5, 0.9, 1e-3, 2.0, 100.0)


@dataclass(frozen=True)
class Setting:
    """Circumstances in which an option may show: other options, the dtype, whether one gradient is NaN."""

    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    poisoned: bool = False


@law
def every_option_acts(subject: Subject) -> str | None:
    """Every option of the constructor changes the path or the state, as the reference says if there is one."""
    plan = telling_course(subject)
    untried = []
    for name in subject.keywords:
        if name not in MEANS:
            try:
                must_act(subject, plan, name)
            except NotApplicable:
                untried.append(name)
    return f"no second value known for {', '.join(untried)}" if untried else None


def telling_course(subject: Subject) -> Course:
    """Gradients that shrink and turn round, so that maxima, decays and corrections all show."""
    plan = course(subject, [*subject.shapes((9,)), (6, 4)])
    shrink = [1.0, 2.0**-8, 1.0, 2.0**-10, 2.0**-9, 1.0]
    return Course(plan.start, [[g * by for g in row] for row, by in zip(plan.gradients, shrink, strict=True)])


def must_act(subject: Subject, plan: Course, name: str) -> None:
    """Raise `Broken` if no value of this option makes a difference, `NotApplicable` if no valid one is known.

    Some options act only beside another one (nesterov beside momentum) or only in low precision or on a gradient that
    is not finite, so where the option alone makes no difference it is tried in those settings too.
    """
    valid, raised = False, ""
    for setting in settings(subject, name):
        usual = outcome(subject, plan, setting)
        if not isinstance(usual, dict):
            continue
        for value in alternatives(subject, name):
            changed = outcome(subject, plan, replace(setting, options={**setting.options, name: value}))
            if not isinstance(changed, dict):
                raised = raised or (changed and f"; {name}={value!r}: {changed}")
                continue
            valid = True
            if changed.keys() != usual.keys() or not all(same(changed[key], usual[key]) for key in usual):
                must_match_reference(subject, plan, replace(setting, options={**setting.options, name: value}))
                return
    if not valid and not raised:
        raise NotApplicable("no second value is known to be valid")
    raise Broken(f"{name} does nothing: every value that was tried gives the same path and state{raised}")


def settings(subject: Subject, name: str) -> Iterator[Setting]:
    """The settings to try an option in, the plainest first."""
    yield Setting()
    yield Setting(dtype=torch.bfloat16)
    yield Setting(dtype=torch.float32, poisoned=True)
    for other in subject.keywords:
        if other not in (name, *MEANS):
            for value in alternatives(subject, other)[:3]:
                yield Setting({other: value})


def outcome(subject: Subject, plan: Course, setting: Setting) -> dict[str, Any] | str:
    """Parameters and state after the course; what the step raised; or "" if the constructor declined."""
    gradients = [list(row) for row in plan.gradients]
    if setting.poisoned:
        gradients[2][0] = gradients[2][0] * torch.nan
    options = setting.options
    try:
        trial = Trial(subject, parameters(plan.start, setting.dtype), **options).run(gradients)
    except NotApplicable:
        return ""
    except Broken as error:
        if options and all(isinstance(usual_value(subject, name), bool) for name in options):
            # A number may be out of range; both values of a switch have to work.
            said = ", ".join(f"{name}={value}" for name, value in options.items())
            raise Broken(f"{said} is accepted, but {error}") from error
        return str(error)
    state = {path: value for path, value in trial.state().items() if path.startswith("state")}
    return {**{str(index): value for index, value in enumerate(trial.raw())}, **state}


def usual_value(subject: Subject, name: str) -> Any:
    """The value that an option has when nothing is changed."""
    return subject.options.get(name, subject.defaults.get(name, subject.keywords[name].default))


def alternatives(subject: Subject, name: str) -> list[Any]:
    """Other values that an option may have, the plainest first."""
    value = usual_value(subject, name)
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
        return [*NUMBERS, True, torch.bfloat16, *offered(subject, name)]
    return offered(subject, name) if isinstance(value, str) else []


def offered(subject: Subject, name: str) -> list[str]:
    """The words in quotes in what the constructor says to a wrong word: most name the right ones."""
    try:
        subject.build([Subject.blank((3, 2))], **{name: "no such value"})
    except Exception as error:
        words = re.findall(r"""['"]([\w-]+)['"]""", str(error))
        return [word for word in dict.fromkeys(words) if word not in (name, usual_value(subject, name))]
    return []


def literals(annotation: Any) -> list[Any]:
    """The values of every Literal in an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [value for part in typing.get_args(annotation) for value in literals(part)]


def must_match_reference(subject: Subject, plan: Course, setting: Setting) -> None:
    """Raise `Broken` unless the reference takes the same path in this setting."""
    if subject.reference is None or setting != Setting(setting.options):
        return
    found = Trial(subject, parameters(plan.start), **setting.options).run(plan.gradients).values()
    said = ", ".join(f"{key}={value}" for key, value in setting.options.items())
    must_be_near(found, formula_path(subject, plan, **setting.options)[-1], f"{said} against the reference")
