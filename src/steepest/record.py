"""What a run says about itself: plain data that can be read without a model."""

from dataclasses import asdict, dataclass, field
from typing import Any


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
    """One choice made for the user: what was decided, its value, and why."""

    what: str
    value: str
    why: str


@dataclass(frozen=True)
class Plan:
    """All choices made for the user; `print(plan)` reads like an engineer's note."""

    decisions: tuple[Decision, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return {"decisions": [asdict(decision) for decision in self.decisions]}

    def __str__(self) -> str:
        width = max((len(decision.what) for decision in self.decisions), default=0)
        lines = (f"{each.what:<{width}}  {each.value}\n{'':<{width}}  {each.why}" for each in self.decisions)
        return "\n".join(lines)
