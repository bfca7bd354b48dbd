"""Laws of missing gradients: parameters come late, pause, and join."""

from steepest.testing.comparing import must_be_near, must_equal
from steepest.testing.law import Broken, law
from steepest.testing.subject import Subject
from steepest.testing.trial import Trial, course, parameters


@law
def late_gradient_joins(subject: Subject) -> None:
    """A parameter whose first gradient comes at step 3 lies still until then, decay or not, and moves from then on."""
    plan = course(subject, subject.shapes((9, 17)))
    trial = Trial(subject, parameters(plan.start), **subject.only(weight_decay=0.1))
    trial.run([[row[0], None] for row in plan.gradients[:2]])
    must_equal(trial.values()[1:], plan.start[1:], "a parameter without gradient")
    trial.run(plan.gradients[2:])
    late = trial.values()[1]
    if not late.isfinite().all():
        raise Broken("a parameter whose first gradient comes at step 3 becomes NaN or infinite")
    still = int((late == plan.start[1]).sum())
    if still:
        raise Broken(f"{still} of {late.numel()} elements never move after their first gradient at step 3")


@law
def late_gradient_starts_fresh(subject: Subject) -> None:
    """A parameter whose first gradient comes at step 3 takes the steps that a new optimizer would take."""
    plan = course(subject, subject.shapes((9, 17)))
    trial = Trial(subject, parameters(plan.start)).run([[row[0], None] for row in plan.gradients[:2]])
    trial.run(plan.gradients[2:])
    fresh = Trial(subject, parameters(plan.start[1:])).run([row[1:] for row in plan.gradients[2:]])
    must_be_near(trial.values()[1:], fresh.values(), "first gradient at step 3, against a new optimizer")


@law
def missing_gradient_waits(subject: Subject) -> None:
    """A gradient missing for one step leaves its parameter and its state as they were."""
    plan = course(subject, subject.shapes((9, 17)))
    trial = Trial(subject, parameters(plan.start)).run(plan.gradients[:3])
    before, state = trial.values()[1], trial.own_state(1)
    trial.step([plan.gradients[3][0], None])
    must_equal(trial.values()[1:], [before], "a parameter whose gradient is missing in step 4")
    must_equal(trial.own_state(1), state, "its state")
    trial.run(plan.gradients[4:])
    if bool((trial.values()[1] == before).any()):
        raise Broken("a parameter whose gradient was missing in step 4 does not move in step 5")
