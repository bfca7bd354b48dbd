"""Comparing runs: to the last bit, or to the rounding that a dtype allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steepest.testing.law import Broken
from steepest.testing.subject import Subject
from steepest.testing.trial import Course, Trial, parameters

Path = list[list[Tensor]]  # parameters at the start and after every step, float64


@dataclass(frozen=True)
class Expected:
    """Where the parameters should be after every step, and how far off rounding may put each element."""

    path: Path
    allowed: Path


def formula_path(subject: Subject, course: Course, *, apart: bool = False, **changes: Any) -> Path:
    """The path in float64: the subject's reference if it has one, else its own plainest form.

    apart: every parameter in an optimizer of its own.
    """
    if subject.reference is not None:
        hyper = {**subject.defaults, **changes}
        steps = range(len(course.gradients) + 1)
        # A reference may work in place, so it gets copies.
        return [
            list(subject.reference(copies(course.start), [copies(g) for g in course.gradients[:step]], **hyper))
            for step in steps
        ]
    if apart:
        singles = [
            formula_path(subject, Course([start], [[gradients[index]] for gradients in course.gradients]), **changes)
            for index, start in enumerate(course.start)
        ]
        return [[single[step][0] for single in singles] for step in range(len(course.gradients) + 1)]
    return walk(Trial(subject, parameters(course.start), **{**subject.loop, **changes}), course.gradients)


def walk(trial: Trial, steps: Sequence[Sequence[Tensor | None]]) -> Path:
    """The path of a trial."""
    path = [trial.values()]
    for gradients in steps:
        trial.step(gradients)
        path.append(trial.values())
    return path


def expect(subject: Subject, course: Course, dtype: torch.dtype, **changes: Any) -> Expected:
    """The float64 path, with the room that `dtype` may need around it.

    Room is given for rounding the parameters at each step, for rounding inside the update and the state, and for what
    the formula itself makes of inputs that are off by one rounding (measured: three runs with such inputs). Where each
    element depends on all (measured: a run with one input changed), there are sums and products of matrices in
    between, whose own rounding is amplified as that of the inputs is, but cancels less: Newton-Schulz on 1000 x 4
    needed up to 12 times the mean of what the inputs make, by the library that multiplies.
    """
    epsilon = torch.finfo(dtype).eps
    path = formula_path(subject, course, **changes)
    shaken = [formula_path(subject, shake(course, epsilon, seed), **changes) for seed in range(3)]
    poked = formula_path(subject, poke(course), **changes)
    allowed: Path = []
    for step in range(len(path)):
        row = []
        for index in range(len(course.start)):
            history = torch.stack([path[k][index] for k in range(step + 1)])
            motion = history.diff(dim=0).abs().sum(dim=0)
            spread = torch.stack([(other[step][index] - path[step][index]).abs() for other in shaken]).amax(dim=0)
            rounding = (step + 1) * history.abs().amax(dim=0) + (4 + 2 * step) * motion
            mixing = bool((poked[step][index] != path[step][index]).flatten()[1:].any())
            # Three runs are few: the mean makes up for an element that happened to be still in all of them.
            row.append(epsilon * rounding + 2 * spread + (16 if mixing else 4) * spread.sum() / max(spread.numel(), 1))
        allowed.append(row)
    return Expected(path, allowed)


def shake(course: Course, epsilon: float, seed: int) -> Course:
    """The same course with every number off by about one rounding."""
    generator = torch.Generator().manual_seed(seed)

    def off(value: Tensor) -> Tensor:
        noise = torch.randint(-1, 2, value.shape, generator=generator)
        return value * (1 + epsilon * noise)

    return Course([off(v) for v in course.start], [[off(v) for v in row] for row in course.gradients])


def poke(course: Course) -> Course:
    """The same course with the first number of every gradient changed."""
    first = [[torch.arange(g.numel()).reshape(g.shape) == 0 for g in row] for row in course.gradients]
    pairs = [list(zip(row, places, strict=True)) for row, places in zip(course.gradients, first, strict=True)]
    return Course(course.start, [[torch.where(place, 1.01 * g, g) for g, place in row] for row in pairs])


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A copy of each."""
    return [tensor.clone() for tensor in tensors]


def must_follow(found: Path, expected: Expected, where: str, dtypes: Sequence[torch.dtype] = ()) -> None:
    """Raise `Broken` at the first step where a parameter is further off than allowed, showing the worst element.

    dtypes: what to call each parameter, where they differ.
    """
    for step in range(1, len(found)):
        for index, value in enumerate(found[step]):
            target, allowed = expected.path[step][index], expected.allowed[step][index]
            # Written so that a NaN on one side only counts as wrong.
            wrong = ~((value - target).abs() <= allowed) & ~(value.isnan() & target.isnan())
            if not wrong.any():
                continue
            still = bool((value == found[0][index]).all())
            excess = torch.where(wrong, (value - target).abs().nan_to_num(nan=torch.inf), -1.0)
            worst = int(excess.flatten().argmax())
            kind = f"{str(dtypes[index])[6:]} " if dtypes else ""
            raise Broken(
                f"{where}, step {step}, {kind}{shown(value.shape)}: "
                + ("the step does nothing; " if still else "")
                + f"{int(wrong.sum())} of {value.numel()} elements are wrong, element {worst} is "
                f"{value.flatten()[worst]:.9g} and should be {target.flatten()[worst]:.9g} "
                f"± {allowed.flatten()[worst]:.1g}"
            )


def must_be_same(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Raise `Broken` unless two trees hold the same leaves, to the bit."""
    if found.keys() != expected.keys():
        different = sorted(found.keys() ^ expected.keys())
        raise Broken(f"{where}: only one of the two has {', '.join(different[:4])}")
    for path, value in expected.items():
        if not same(found[path], value):
            raise Broken(f"{where}: {path} is {brief(found[path])} and should be {brief(value)}")


def must_equal(found: Sequence[Tensor], expected: Sequence[Tensor], where: str) -> None:
    """Raise `Broken` unless two lists of parameters are the same, to the bit."""
    if len(found) != len(expected):
        raise Broken(f"{where}: {len(found)} tensors, expected {len(expected)}")
    for index, (value, target) in enumerate(zip(found, expected, strict=True)):
        if same(value, target):
            continue
        what = f"{where}: tensor {index}, {shown(value.shape)}"
        if value.dtype != target.dtype or value.shape != target.shape:
            raise Broken(f"{what}: {brief(value)} instead of {brief(target)}")
        wrong = (value != target) & ~(value.isnan() & target.isnan())
        place = int(wrong.flatten().int().argmax())
        raise Broken(
            f"{what}: {int(wrong.sum())} elements differ, element {place} is "
            f"{float(value.flatten()[place]):.9g} and should be {float(target.flatten()[place]):.9g}"
        )


def must_be_near(found: Sequence[Tensor], expected: Sequence[Tensor], where: str) -> None:
    """Raise `Broken` unless two lists of float64 parameters agree to 1e-9, room enough for sums in another order."""
    room = [1e-9 * (target.abs() + 1e-3) for target in expected]
    nothing = [torch.full_like(target, torch.nan) for target in expected]
    must_follow([nothing, list(found)], Expected([nothing, list(expected)], [nothing, room]), where)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def brief(value: Any) -> str:
    """A leaf of a state dict in a few words."""
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return f"{str(value.dtype)[6:]} {value.item():.9g}"
        return f"{str(value.dtype)[6:]}{list(value.shape)} of norm {float(value.double().norm()):.9g}"
    return repr(value)[:60]


def shown(shape: torch.Size) -> str:
    """A shape in words."""
    if len(shape) == 1:
        return f"n={shape[0]}"
    return f"shape {tuple(shape)}"
