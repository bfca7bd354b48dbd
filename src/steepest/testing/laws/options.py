"""Laws of options: each does what it says, and a misspelt one is not swallowed."""

from torch import Tensor
from torch.optim import lr_scheduler

from steepest.testing.comparing import must_be_near, must_equal
from steepest.testing.law import Broken, NotApplicable, law, sentence
from steepest.testing.subject import Subject
from steepest.testing.trial import Trial, course, parameters


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
    for rate in (-subject.rate or -0.1, float("nan")):
        try:
            subject.build([Subject.blank((3, 2))], lr=rate)
        except Exception:
            continue
        raise Broken(f"lr={rate} is accepted when the optimizer is built")


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
    if not subject.rate:
        raise NotApplicable("its learning rate is zero to begin with")
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
