"""Laws of arithmetic: each path, dtype and size gives the formula's numbers."""

import copy

import torch

from steepest.testing.comparing import Expected, expect, formula_path, must_follow, walk
from steepest.testing.law import Broken, Law, NotApplicable, law
from steepest.testing.subject import PATHS, Subject
from steepest.testing.trial import Trial, course, parameters

# Around the widths of vector registers, where a kernel's body hands over to its tail.
SIZES = (0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 1000)
MATRICES = ((8, 5), (3, 17))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def shapes_of(subject: Subject) -> list[tuple[int, ...]]:
    """All sizes, two matrices and a convolution kernel, as far as the subject takes them."""
    return [*subject.shapes(SIZES), *(shape for shape in (*MATRICES, (3, 4, 2, 2)) if subject.takes(shape))]


def agreement(dtype: torch.dtype) -> Law:
    """The law that six steps in this dtype, all sizes at once, end where the formula ends."""
    name = str(dtype)[6:]

    def check(subject: Subject) -> None:
        plan = course(subject, shapes_of(subject))
        found = walk(Trial(subject, parameters(plan.start, dtype)), plan.gradients)
        must_follow(found, expect(subject, plan, dtype), name)

    return Law(
        f"agrees-in-{name}",
        f"Six steps in {name} equal the same formula in float64 to rounding, for 0 to 1000 elements.",
        check,
    )


@law
def agrees_in_float64(subject: Subject) -> None:
    """In float64 many parameters in one optimizer end where each ends alone, on the plainest path."""
    plan = course(subject, shapes_of(subject))
    found = walk(Trial(subject, parameters(plan.start)), plan.gradients)
    path = formula_path(subject, plan, apart=True)
    allowed = expect(subject, plan, torch.float64).allowed
    must_follow(found, Expected(path, allowed), "float64")


agrees_in_float32 = agreement(torch.float32)
agrees_in_bfloat16 = agreement(torch.bfloat16)
agrees_in_float16 = agreement(torch.float16)


@law
def every_element_moves(subject: Subject) -> str | None:
    """Every element of every parameter moves, in every dtype, where the formula moves it visibly."""
    plan = course(subject, shapes_of(subject), steps=3)
    unseen = []
    for dtype in DTYPES:
        expected = expect(subject, plan, dtype)
        found = Trial(subject, parameters(plan.start, dtype)).run(plan.gradients).values()
        visible = 0
        for index, (start, value) in enumerate(zip(plan.start, found, strict=True)):
            must = visibly_moved(expected, index, dtype)
            visible += int(must.sum())
            stuck = must & (value == start)
            if stuck.any():
                raise Broken(
                    f"in {str(dtype)[6:]} {int(stuck.sum())} of {value.numel()} elements of a parameter of shape "
                    f"{tuple(value.shape)} never move, the first is element {int(stuck.flatten().int().argmax())}"
                )
        if not visible:
            unseen.append(str(dtype)[6:])
    return f"steps are too small to be seen in {', '.join(unseen)}" if unseen else None


def visibly_moved(expected: Expected, index: int, dtype: torch.dtype) -> torch.Tensor:
    """Which elements a path moves further than rounding could undo, by at least one step that is not rounded away."""
    history = torch.stack([row[index] for row in expected.path])
    if dtype == torch.float64:  # no gradient is zero, so here everything moves
        return torch.ones_like(history[0], dtype=torch.bool)
    lost = 2 * torch.finfo(dtype).eps * history[0].abs()
    moved = (history[-1] - history[0]).abs() > expected.allowed[-1][index]
    return moved & (history.diff(dim=0).abs() > lost).any(dim=0)


@law
def paths_agree(subject: Subject) -> str | None:
    """Each execution path (foreach, fused) takes the same step from the middle of a run, dtypes mixed."""
    paths = [path for path in PATHS if path in subject.keywords]
    if not paths:
        raise NotApplicable("it has one path only")
    declined = []
    for dtype in DTYPES:
        for path in paths:
            try:
                step_on_path(subject, path, dtype)
            except NotApplicable as answer:
                declined.append(f"{path}: {answer}")
    if len(declined) == len(DTYPES) * len(paths):
        raise NotApplicable(declined[0])
    return declined[0] if declined else None


def step_on_path(subject: Subject, path: str, dtype: torch.dtype) -> None:
    """Raise `Broken` unless the path and the plain loop, from the same state after five steps, take the same step.

    The group holds a parameter of another dtype as well.
    """
    plan = course(subject, shapes_of(subject), steps=6, seed=3)
    other = torch.float32 if dtype != torch.float32 else torch.bfloat16
    dtypes = [other if index % 3 == 1 else dtype for index in range(len(plan.start))]

    def start(values: list[torch.Tensor], **changes: bool) -> Trial:
        cast = [torch.nn.Parameter(v.to(d, copy=True)) for v, d in zip(values, dtypes, strict=True)]
        return Trial(subject, cast, **changes)

    plain = start(plan.start, **subject.loop).run(plan.gradients[:5])
    fast = start(plain.values(), **{**subject.loop, path: True})
    for mine, its in zip(fast.parameters, plain.parameters, strict=True):
        # Not through a state dict: loading is another law's matter.
        fast.optimizer.state[mine] = copy.deepcopy(plain.optimizer.state[its])
    for mine, its in zip(fast.optimizer.param_groups, plain.optimizer.param_groups, strict=True):
        mine.update(copy.deepcopy({key: value for key, value in its.items() if key not in ("params", *PATHS)}))
    fast.steps_done = plain.steps_done
    target, found = walk(plain, plan.gradients[5:]), walk(fast, plan.gradients[5:])
    allowed = [
        torch.finfo(d).eps * (2 * a.abs() + 10 * (b - a).abs())
        for d, a, b in zip(dtypes, target[0], target[1], strict=True)
    ]
    must_follow(found, Expected(target, [allowed, allowed]), f"{path}=True", dtypes)


@law
def mixed_dtypes_share_a_group(subject: Subject) -> None:
    """Parameters of several dtypes in one group step as they do in a group for each dtype, decay included."""
    plan = course(subject, subject.shapes((17, 5, 33, 8)))
    dtypes = [torch.float32, torch.bfloat16, torch.float32, torch.bfloat16]
    decay = subject.only(weight_decay=0.1)
    mixed = [torch.nn.Parameter(v.to(d, copy=True)) for v, d in zip(plan.start, dtypes, strict=True)]
    parted = [torch.nn.Parameter(v.to(d, copy=True)) for v, d in zip(plan.start, dtypes, strict=True)]
    groups = [{"params": parted[0::2]}, {"params": parted[1::2]}]
    found = walk(Trial(subject, mixed, **decay), plan.gradients)
    separate = Trial.of(parted, subject.make(groups, **decay))
    path = walk(separate, plan.gradients)
    allowed = [
        [torch.finfo(d).eps * (k + 1) * (v.abs() + (v - s).abs()) for v, s, d in zip(row, path[0], dtypes, strict=True)]
        for k, row in enumerate(path)
    ]
    must_follow(found, Expected(path, allowed), "float32 and bfloat16 in one group", dtypes)
