"""Laws of memory: shape, strides and storage of parameter and gradient do not matter."""

import torch
from torch import Tensor
from torch.nn import Parameter

from steepest.testing.comparing import Expected, expect, must_be_same, must_follow, walk
from steepest.testing.law import Broken, NotApplicable, law
from steepest.testing.subject import Subject
from steepest.testing.trial import Course, Trial, course, parameters

SHAPE = (6, 5)
KERNEL = (4, 3, 2, 2)


@law
def scalars_and_empty_tensors_step(subject: Subject) -> None:
    """A 0-d parameter moves like one of one element, and an empty one passes unnoticed."""
    if not subject.takes((5,)):
        raise NotApplicable("it takes matrices only")
    plan = course(subject, [(1,), (7,)])
    pairs = Trial(subject, parameters(plan.start, torch.float32))
    target = walk(pairs, plan.gradients)
    scalar, vector = plan.start[0][0], plan.start[1]
    empty = torch.zeros(0, dtype=torch.float64)
    trial = Trial(subject, parameters([empty, scalar, empty.reshape(0, 3), vector], torch.float32))
    for gradients in plan.gradients:
        trial.step([empty, gradients[0][0], empty.reshape(0, 3), gradients[1]])
    found = [trial.values()[1].reshape(1), trial.values()[3]]
    room = expect(subject, plan, torch.float32).allowed[-1]
    must_follow([target[0], found], Expected([target[0], target[-1]], [room, room]), "0-d and n=7 beside empty ones")


@law
def strided_parameters_step(subject: Subject) -> None:
    """Transposed, sliced and shifted parameters step like contiguous ones, and memory between stays untouched.

    Gradients have the strides that autograd gives them: the parameter's if it is dense, else contiguous.
    """
    for dtype in (torch.float32, torch.bfloat16):
        plan, target = one_matrix(subject, SHAPE, dtype)
        for name, (base, view) in views(plan.start[0], dtype).items():
            outside = base.clone()
            trial = Trial(subject, [Parameter(view)])
            steps = [[torch.empty_like(view, dtype=torch.float64).copy_(row[0])] for row in plan.gradients]
            found = walk(trial, steps)
            # Put the old values back in the view: then the whole base must be as it was.
            view.copy_(plan.start[0])
            written = int((base != outside).sum())
            if written:
                raise Broken(
                    f"{name}, {str(dtype)[6:]}: {written} elements of memory outside the parameter are written"
                )
            must_follow(found, target, f"{name} {str(dtype)[6:]}")


def views(values: Tensor, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """The same matrix in several places of larger memory: name -> (whole memory, the part that is the matrix)."""
    rows, columns = values.shape
    bases = {
        "transposed": (lambda b: b.t(), (columns, rows)),
        "every second column": (lambda b: b[:, ::2], (rows, 2 * columns)),
        "every second row": (lambda b: b[::2], (2 * rows, columns)),
        "middle columns": (lambda b: b[:, 1 : columns + 1], (rows, columns + 2)),
        "shifted by one element": (lambda b: b[1:-1].view(rows, columns), (rows * columns + 2,)),
    }
    made = {}
    for name, (part, shape) in bases.items():
        base = torch.full(shape, 0.25, dtype=dtype)
        part(base).copy_(values)
        made[name] = (base, part(base))
    return made


@law
def channels_last_steps(subject: Subject) -> None:
    """A channels-last convolution kernel with channels-last gradients steps like a contiguous one and stays so."""
    if not subject.takes(KERNEL):
        raise NotApplicable("it does not take convolution kernels")
    for dtype in (torch.float32, torch.bfloat16):
        plan, target = one_matrix(subject, KERNEL, dtype)
        parameter = Parameter(plan.start[0].to(dtype).to(memory_format=torch.channels_last))
        steps = [[row[0].to(memory_format=torch.channels_last)] for row in plan.gradients]
        strides = parameter.stride()
        must_follow(walk(Trial(subject, [parameter]), steps), target, f"channels-last {str(dtype)[6:]}")
        if parameter.stride() != strides:
            raise Broken(f"the strides of the parameter changed from {strides} to {parameter.stride()}")


@law
def gradient_strides_do_not_matter(subject: Subject) -> None:
    """A gradient in other strides than its parameter, even an expanded one, gives the same step."""
    plan, target = one_matrix(subject, SHAPE, torch.float32)
    turned = [[row[0].t().contiguous().t()] for row in plan.gradients]
    must_follow(walk(Trial(subject, parameters(plan.start, torch.float32)), turned), target, "transposed gradient")
    if subject.takes(KERNEL):
        plan, target = one_matrix(subject, KERNEL, torch.float32)
        turned = [[row[0].to(memory_format=torch.channels_last)] for row in plan.gradients]
        found = walk(Trial(subject, parameters(plan.start, torch.float32)), turned)
        must_follow(found, target, "contiguous parameter, channels-last gradient")
        last = [Parameter(v.to(torch.float32).to(memory_format=torch.channels_last)) for v in plan.start]
        found = walk(Trial(subject, last), plan.gradients)
        must_follow(found, target, "channels-last parameter, contiguous gradient")
    plan = course(subject, [SHAPE])
    even = Course(plan.start, [[torch.full(SHAPE, row[0].flatten()[0].item()).double()] for row in plan.gradients])
    stretched = [[row[0][:1, :1].expand(SHAPE)] for row in even.gradients]
    target = contiguous(subject, even, torch.float32)
    must_follow(walk(Trial(subject, parameters(plan.start, torch.float32)), stretched), target, "expanded gradient")


@law
def replaced_storage_is_followed(subject: Subject) -> None:
    """After `p.data = ...`, as `model.to` does it, the step writes the new memory and leaves the old alone."""
    plan = course(subject, subject.shapes((17, 33)))
    target = walk(Trial(subject, parameters(plan.start, torch.float32)), plan.gradients)
    trial = Trial(subject, parameters(plan.start, torch.float32)).run(plan.gradients[:3])
    old = [parameter.data for parameter in trial.parameters]
    kept = [value.clone() for value in old]
    for parameter in trial.parameters:
        parameter.data = parameter.data.clone()
    trial.run(plan.gradients[3:])
    for index, value in enumerate(old):
        must_be_same({"old memory": value}, {"old memory": kept[index]}, f"parameter {index}, storage replaced")
    nothing = [torch.zeros_like(value) for value in target[0]]
    found = [target[0], trial.values()]
    must_follow(found, Expected([target[0], target[-1]], [nothing, nothing]), "after storage was replaced")


def one_matrix(subject: Subject, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Course, Expected]:
    """A course of one parameter of this shape, and the path of a contiguous one."""
    plan = course(subject, [shape])
    return plan, contiguous(subject, plan, dtype)


def contiguous(subject: Subject, plan: Course, dtype: torch.dtype) -> Expected:
    """The path that contiguous parameters and gradients take in this dtype, with room for another order of rounding."""
    path = walk(Trial(subject, parameters(plan.start, dtype)), plan.gradients)
    return Expected(path, expect(subject, plan, dtype).allowed)
