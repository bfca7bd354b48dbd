"""Laws of groups: what is grouped, and in which order, changes nothing but what was asked for."""

from typing import Any

import torch
from torch.nn import Parameter

from steepest.testing.comparing import must_be_near
from steepest.testing.law import Broken, law, sentence
from steepest.testing.subject import Subject
from steepest.testing.trial import Course, Trial, course, parameters


def three(subject: Subject) -> Course:
    """A course of three parameters."""
    return course(subject, subject.shapes((9, 17, 4)))


@law
def parameter_order_does_not_matter(subject: Subject) -> None:
    """The order of parameters within a group does not matter."""
    plan = three(subject)
    order = [2, 0, 1]
    target = Trial(subject, parameters(plan.start)).run(plan.gradients).values()
    values = parameters(plan.start)
    turned = Trial(subject, [values[i] for i in order]).run([[row[i] for i in order] for row in plan.gradients])
    must_be_near(turned.values(), [target[i] for i in order], "parameters in another order")


@law
def group_order_does_not_matter(subject: Subject) -> None:
    """The order of groups with different rates does not matter."""
    plan = three(subject)
    first, second = two_groups(subject, plan, [0, 1]), two_groups(subject, plan, [1, 0])
    must_be_near(second.run(plan.gradients).values(), first.run(plan.gradients).values(), "groups in another order")


def two_groups(subject: Subject, plan: Course, order: list[int]) -> Trial:
    """A trial of parameters 0 and 1 at the usual rate and parameter 2 at half of it, groups given in this order."""
    values = parameters(plan.start)
    groups: list[dict[str, Any]] = [{"params": values[:2]}, {"params": values[2:], "lr": subject.rate / 2}]
    return Trial.of(values, subject.make([groups[i] for i in order]))


@law
def groups_are_optimizers(subject: Subject) -> None:
    """Two groups with different rates step like two optimizers."""
    plan = three(subject)
    found = two_groups(subject, plan, [0, 1]).run(plan.gradients).values()
    usual = Trial(subject, parameters(plan.start[:2])).run([row[:2] for row in plan.gradients])
    halved = Trial(subject, parameters(plan.start[2:]), lr=subject.rate / 2)
    halved.run([row[2:] for row in plan.gradients])
    must_be_near(found, [*usual.values(), *halved.values()], "two groups against two optimizers")


@law
def added_group_joins(subject: Subject) -> None:
    """A group added after three steps moves by the rate it was given, and the others go on as before."""
    plan = three(subject)
    target = Trial(subject, parameters(plan.start[:2])).run([row[:2] for row in plan.gradients]).values()
    values = parameters(plan.start)
    optimizer = subject.make(values[:2])
    Trial.of(values[:2], optimizer).run([row[:2] for row in plan.gradients[:3]])
    try:
        optimizer.add_param_group({"params": values[2:], "lr": subject.rate / 2})
    except Exception as error:
        raise Broken(f"add_param_group after three steps raised {sentence(error)}") from error
    trial = Trial.of(values, optimizer, 3).run(plan.gradients[3:])
    fresh = Trial(subject, parameters(plan.start[2:]), lr=subject.rate / 2)
    fresh.run([row[2:] for row in plan.gradients[3:]])
    must_be_near(trial.values(), [*target, *fresh.values()], "a group added after three steps")


@law
def unknown_group_option_is_refused(subject: Subject) -> None:
    """An option that the rule does not know, set in a group, is refused: it would do nothing."""
    subject.make([{"params": [Parameter(torch.zeros(3, 2))]}])  # groups as such it must take
    try:
        subject.build([{"params": [Parameter(torch.zeros(3, 2))], "no_such_option": 0.5}])
    except Exception:
        return
    raise Broken('a group with "no_such_option": 0.5 is accepted, and the option does nothing')
