"""Trying a subject against the laws: one verdict each."""

import io
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import torch

from steepest.spelling import meant
from steepest.testing.law import Broken, Law, NotApplicable, sentence
from steepest.testing.laws import LAWS
from steepest.testing.subject import Subject

Outcome = Literal["kept", "broken", "excused", "not applicable", "excuse not needed"]


@dataclass(frozen=True)
class Verdict:
    """What came of one law.

    outcome: "kept"; "broken"; "excused", broken as the subject declares; "not applicable"; or "excuse not needed",
        declared as broken and yet kept.
    why: for anything but a plain "kept", one sentence with the numbers.
    reproduce: one line of Python that raises the same sentence.
    """

    law: Law
    outcome: Outcome
    why: str
    reproduce: str

    @property
    def good(self) -> bool:
        """Whether nothing needs mending, in the optimizer or in what is declared about it."""
        return self.outcome in ("kept", "excused", "not applicable")


def as_subject(subject: Subject | str | Callable[..., torch.optim.Optimizer], **options: Any) -> Subject:
    """A subject as it is, or made from an optimizer class or its "module:Class" with these options."""
    from steepest.testing.named import find

    if isinstance(subject, str):
        return Subject(find(subject), **options)
    if isinstance(subject, Subject):
        if options:
            raise TypeError(f"Options go into the Subject, and were given beside it: {', '.join(options)}.")
        return subject
    return Subject(subject, **options)


def named_laws(laws: Iterable[Law | str] | None) -> tuple[Law, ...]:
    """The laws that are meant: all of them, or those given, by themselves or by name."""
    if laws is None:
        return LAWS
    known = {law.name: law for law in LAWS}
    chosen = []
    for law in laws:
        if isinstance(law, str):
            if law not in known:
                raise ValueError(unknown_law(law))
            law = known[law]
        chosen.append(law)
    return tuple(chosen)


def unknown_law(name: str) -> str:
    """The sentence for a name that no law has."""
    return f"There is no law named {name!r}; {meant(name, [law.name for law in LAWS])}"


def check(
    subject: Subject | str | Callable[..., torch.optim.Optimizer],
    laws: Iterable[Law | str] | None = None,
    **options: Any,
) -> list[Verdict]:
    """Try an optimizer against the laws, all or those given.

    >>> [verdict.outcome for verdict in check(torch.optim.SGD, ["hooks-fire"], lr=0.1)]
    ['kept']

    The result depends on the optimizer alone: all randomness is seeded, and the state of the global generators is put
    back. Raises ValueError if the optimizer cannot be built or cannot take a single step, or if a law of that name
    does not exist.
    """
    subject = as_subject(subject, **options)
    chosen = named_laws(laws)
    for name in subject.breaks:
        if name not in {law.name for law in LAWS}:
            raise ValueError(f"breaks= of {subject}: {unknown_law(name)}")
    # Some optimizers print when they are built, and they are built a few hundred times here.
    with undisturbed(), redirect_stdout(io.StringIO()):
        must_work(subject)
        return [judge(subject, law) for law in chosen]


def must_work(subject: Subject) -> None:
    """Raise ValueError unless the subject can be built and stepped on a small matrix."""
    try:
        subject.build([Subject.blank((4, 3))])
    except Exception as error:
        raise ValueError(
            f"{subject} cannot be built on one float32 parameter of shape (4, 3) ({sentence(error)}); "
            "give the options it needs."
        ) from error
    if not subject.takes((4, 3)):
        raise ValueError(
            f"{subject} cannot step one float32 parameter of shape (4, 3) with a dense gradient: no law can be tried."
        )


def judge(subject: Subject, law: Law) -> Verdict:
    """One law, from the same random state whatever was tried before."""
    torch.default_generator.manual_seed(0)
    random.seed(0)
    excuse = subject.breaks.get(law.name)
    outcome: Outcome
    try:
        why = law.check(subject) or ""
        outcome = "kept"
    except NotApplicable as answer:
        why, outcome = str(answer), "not applicable"
    except Broken as breach:
        why, outcome = str(breach), "broken"
    except Exception as error:  # from a place where no law expected one: its state_dict, its zero_grad
        why, outcome = f"trying it raised {sentence(error)}", "broken"
    if excuse is not None:
        if outcome == "broken":
            why, outcome = f"{excuse} ({why})", "excused"
        elif outcome == "kept":
            why, outcome = f"declared as broken ({excuse}), but it is kept: remove the declaration", "excuse not needed"
    return Verdict(law, outcome, why, f"steepest.testing.reproduce({law.name!r}, {spelled(subject)})")


def spelled(subject: Subject) -> str:
    """The subject as an argument in Python: by its name if it can be imported, else the variable that holds it."""
    module = getattr(subject.create, "__module__", None)
    options = "".join(f", {key}={value!r}" for key, value in subject.options.items())
    found: Any = sys.modules.get(module or "")
    for part in subject.name.split("."):
        found = getattr(found, part, None)
    if found is not subject.create or subject.reference is not None:
        return "subject"
    return f'"{module}:{subject.name}"{options}'


def reproduce(law: str, subject: Subject | str | Callable[..., torch.optim.Optimizer], **options: Any) -> str | None:
    """Try one law by name and let `Broken` or `NotApplicable` through, with the traceback to where it happens."""
    chosen = as_subject(subject, **options)
    with undisturbed():
        torch.default_generator.manual_seed(0)
        random.seed(0)
        return named_laws([law])[0].check(chosen)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the global random generators as they were, and keep the optimizer's own warnings quiet."""
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
