"""The law that every option does something: other values for it, and the circumstances in which it may show."""

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import torch

from steepest.testing.comparing import formula_path, must_be_near, same
from steepest.testing.law import Broken, NotApplicable, law
from steepest.testing.subject import PATHS, Subject
from steepest.testing.trial import Course, Trial, course, parameters

# Options that say how the step is computed, not what it is.
MEANS = (*PATHS, "capturable", "differentiable")
NUMBERS = (0.0, 1.0, 0.1, 0.5, 0.9, 1e-3, 2.0, 100.0)


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
        switches = [name for name in options if isinstance(usual_value(subject, name), bool)]
        if isinstance(error, Broken) and switches and len(switches) == len(options):
            # A number may be out of range; both values of a switch have to work.
            raise Broken(f"{switches[-1]}={options[switches[-1]]} is accepted, but {error}") from error
        return None
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


def must_match_reference(subject: Subject, plan: Course, options: dict[str, Any]) -> None:
    """Raise `Broken` unless the reference takes the same path with these options."""
    if subject.reference is None:
        return
    found = Trial(subject, parameters(plan.start), **options).run(plan.gradients).values()
    said = ", ".join(f"{key}={value}" for key, value in options.items())
    must_be_near(found, formula_path(subject, plan, **options)[-1], f"{said} against the reference")
