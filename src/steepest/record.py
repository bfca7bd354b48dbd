"""What a run says about itself: plain data that can be read without a model."""

import json
import os
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Finding:
    """Something that went wrong in a run.

    status: "proven" when an intervention confirmed the cause, "suspected" when there is evidence only. step: when it
    was said; onset: when it began. where: file and line, when they can be known.
    """

    cause: str
    name: str
    status: str
    step: int
    onset: int
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    fix: str = ""
    where: str = ""


@dataclass(frozen=True)
class Decision:
    """One choice made for the user: what was decided, its value, and why.

    evidence: the numbers it rests on. alternative: what else could have been chosen. regret: change of the choice, as
    "half the rate" -> by what part the loss is expected to end higher.
    """

    what: str
    value: str
    why: str
    evidence: dict[str, float] = field(default_factory=dict)
    alternative: str = ""
    regret: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the value, and what is to be said about it."""
        evidence = ", ".join(f"{name} {number:.3g}" for name, number in self.evidence.items())
        regret = ", ".join(f"{change} would end {part:+.0%}" for change, part in self.regret.items())
        more = {"measured": evidence, "expected of the loss": regret, "instead of": self.alternative}
        return [self.value, self.why, *(f"{what}: {words}" for what, words in more.items() if words)]


@dataclass(frozen=True)
class Plan:
    """All choices made for the user; `print(plan)` reads like an engineer's note.

    settings: what the choices come to, as plain data, from which the same training is set up again. spent: what finding
    them cost, in updates.
    """

    decisions: tuple[Decision, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    spent: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plan: dict[str, Any]) -> Self:
        """Return the plan that `to_dict` was called on."""
        decisions = tuple(Decision(**decision) for decision in plan["decisions"])
        return cls(decisions, plan["settings"], plan["spent"])

    def save(self, path: str | Path) -> None:
        """Write the plan to a JSON file, whole or not at all."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a plan from a JSON file; ValueError when it holds none."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} holds no plan, as Plan.save writes it ({type(error).__name__}: {error})."
            ) from None

    def __str__(self) -> str:
        width = max((len(decision.what) for decision in self.decisions), default=0)
        return "\n".join(
            f"{what:<{width}}  {line}"
            for decision in self.decisions
            for what, line in zip_longest([decision.what], decision.lines(), fillvalue="")
        )
