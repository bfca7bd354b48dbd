"""Laws of extreme gradients: zero, tiny, huge and NaN."""

import torch
from torch import Tensor

from steepest.testing.comparing import formula_path
from steepest.testing.law import Broken, Law, law
from steepest.testing.subject import Subject
from steepest.testing.trial import Course, Trial, course, parameters

LOW = (torch.float32, torch.bfloat16, torch.float16)


@law
def zero_gradient_moves_nothing(subject: Subject) -> None:
    """With a gradient of zero from the first step on, and no decay, nothing moves."""
    plan = course(subject, subject.shapes((9, 17)))
    trial = Trial(subject, parameters(plan.start, torch.float32), **subject.undecayed)
    trial.run([[torch.zeros_like(value) for value in plan.start]] * 3)
    for value, start in zip(trial.values(), plan.start, strict=True):
        if not value.isfinite().all():
            raise Broken("three steps with a gradient of zero make the parameter NaN or infinite")
        motion = (value - start).abs()
        if (motion > 4 * torch.finfo(torch.float32).eps * start.abs()).any():  # more than rounding
            raise Broken(f"three steps with a gradient of zero move a parameter by {motion.max().item():.3g}")


def stays_finite(name: str, size: str, gradient_in: dict[torch.dtype, float]) -> Law:
    """The law that one gradient of this size, then three usual ones, leave parameters finite."""

    def check(subject: Subject) -> None:
        for dtype, gradient in gradient_in.items():
            usual = course(subject, subject.shapes((1, 17)), steps=4)
            first = [torch.full_like(value, gradient) for value in usual.start]
            plan = Course(usual.start, [first, *usual.gradients[1:]])
            limit = torch.finfo(dtype).max
            if not all((v.abs() < limit).all() for row in formula_path(subject, plan) for v in row):
                continue  # the formula itself leaves the range of this dtype
            trial = Trial(subject, parameters(plan.start, dtype)).run(plan.gradients)
            lost = sum(int((~value.isfinite()).sum()) for value in trial.values())
            if lost:
                total = sum(value.numel() for value in plan.start)
                raise Broken(f"in {str(dtype)[6:]} a gradient of {gradient:.2g} leaves {lost} of {total} elements NaN")

    return Law(name, f"After one gradient {size} parameters are finite, in float32, bfloat16 and float16.", check)


zero_gradient_stays_finite = stays_finite("zero-gradient-stays-finite", "of zero", dict.fromkeys(LOW, 0.0))
tiny_gradient_stays_finite = stays_finite(
    "tiny-gradient-stays-finite",
    "as small as the dtype can hold",
    {torch.float32: 1e-44, torch.bfloat16: 1e-40, torch.float16: 6e-8},
)
huge_gradient_stays_finite = stays_finite(
    "huge-gradient-stays-finite",
    "of a quarter of the largest number",
    {dtype: torch.finfo(dtype).max / 4 for dtype in LOW},
)


def poisoned(subject: Subject) -> tuple[Trial, list[Tensor], Tensor, list[Tensor]]:
    """A trial whose second step had one NaN in the first of two gradients.

    Returns the trial, the parameters before that step, the NaN element's place, and the parameters after it.
    """
    plan = course(subject, subject.shapes((9, 17)), steps=2)
    trial = Trial(subject, parameters(plan.start, torch.float32)).run(plan.gradients[:1])
    before = trial.values()
    bad = plan.gradients[1][0].clone()
    bad.view(-1)[4] = torch.nan
    trial.step([bad, plan.gradients[1][1]])
    return trial, before, bad.isnan(), trial.values()


@law
def nan_stays_home(subject: Subject) -> None:
    """A NaN in the gradient of one parameter does not make any other parameter NaN."""
    _, _, _, after = poisoned(subject)
    lost = int((~after[1].isfinite()).sum())
    if lost:
        raise Broken(f"one NaN in one gradient makes {lost} of {after[1].numel()} elements of another parameter NaN")


@law
def nan_is_not_hidden(subject: Subject) -> None:
    """A NaN in the gradient shows in the parameter, or the whole step is skipped."""
    trial, before, place, after = poisoned(subject)
    if not after[0][place].isfinite().all():
        return
    moved = sum(int((a != b).sum()) for a, b in zip(after, before, strict=True))
    state = [value for value in trial.state().values() if isinstance(value, Tensor) and value.is_floating_point()]
    if any(bool(value.isnan().any()) for value in state):
        raise Broken("a NaN gradient leaves a finite parameter and a NaN in the state, to come out later")
    if moved:
        raise Broken(f"a NaN gradient is swallowed: its element comes out finite while {moved} elements move")
