"""What was measured, and the note that explains what is made of it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from steepest.groups import Groups
from steepest.pilot.folding import Fold
from steepest.pilot.output import Output
from steepest.pilot.trace import Ends
from steepest.record import Decision
from steepest.schedules.text import parse


@dataclass
class Found:
    """What was measured of a model.

    knows: part of the loss that it saves by knowing something. folds: of first layers; anew: those that begin anew.
    rescaled: name of a layer -> factor of its first weights.
    output: None where the loss is not quadratic in the prediction. trouble: why something could not be measured.
    """

    ends: Ends = field(default_factory=Ends)
    knows: float = 0.0
    folds: list[Fold] = field(default_factory=list)
    anew: list[Fold] = field(default_factory=list)
    rescaled: dict[str, float] = field(default_factory=dict)
    output: Output | None = None
    trouble: str = ""


def decisions(found: Found, settings: dict[str, Any], assigned: Groups, spent: int) -> tuple[Decision, ...]:
    """Return each choice with what it rests on."""
    made = [
        *_inputs(found), *_rescaled(found), *_outputs(found), *_left_alone(found), _rule(assigned),
        _rate(found, settings), _decay(settings), _schedule(found, settings),
    ]  # fmt: skip
    if spent:
        why = "what measuring takes of the run's steps"
        if settings["readings"]:
            why += f"; {settings['readings']} of them while it trains, for the noise of the gradient"
        if settings["open"]:
            why += "; one more whenever the steps have doubled, for the noise of the gradient"
        made.append(Decision("cost", f"{spent} updates", why))
    return tuple(made)


def _inputs(found: Found) -> list[Decision]:
    if not found.folds:
        return []
    scales = torch.cat([fold.scale[fold.inverse != 0].flatten().double() for fold in found.folds])
    evidence = {"least deviation": float(scales.min()), "greatest": float(scales.max())} if len(scales) else {}
    why = "large inputs would be learned first, and small ones late"
    if found.anew:
        why += "; raw ones drown the first layer, so that its weights begin anew in these units"
    value = f"in units of their deviation, for {len(found.folds)} weights"
    return [Decision("inputs", value, why, evidence, "inputs as they are")]


def _rescaled(found: Found) -> list[Decision]:
    if not found.rescaled:
        return []
    why = "layers make far too much of their inputs, or say the same of each sample; now each puts out unit size"
    evidence = {"least factor": min(found.rescaled.values()), "greatest": max(found.rescaled.values())}
    value = f"multiplied, of {len(found.rescaled)} layers"
    return [Decision("first weights", value, why, evidence, "weights as they came")]


def _outputs(found: Found) -> list[Decision]:
    output = found.output
    if output is None:
        return []
    why = "the loss is quadratic in the prediction, and so far are targets from it"
    if bool(output.shift.any()):
        why += "; the last bias begins at their mean"
    evidence = {"deviation": output.size, "not quadratic by": output.bend}
    return [Decision("outputs", f"in units of {max(1.0, output.size):.3g}", why, evidence, "outputs as they are")]


def _left_alone(found: Found) -> list[Decision]:
    made = []
    if found.ends.foreign:
        why = "their weights are frozen, shared, made by a parametrisation, or not real numbers in 32 bits"
        made.append(Decision("left alone", f"{found.ends.foreign} layers that data enters", why))
    if found.trouble:
        made.append(Decision("units", "as they are", f"the loss cannot be asked without a step: {found.trouble}"))
    return made


def _rule(assigned: Groups) -> Decision:
    counts = Counter(each.rule for each in assigned.assignments)
    value = ", ".join(f"{rule} for {count} tensors" for rule, count in counts.items())
    why = "Muon steps hidden matrices equally far in all directions; AdamW steps the rest"
    return Decision("rule", value, why, alternative="AdamW for every tensor, whose best rate lies anywhere")


def _rate(found: Found, settings: dict[str, Any]) -> Decision:
    value = f"{settings['rate']:g}"
    if found.ends.differentiated:
        why = "the loss is made of derivatives: an equation has no noise, and bears a larger rate"
    elif found.ends.last is not None and found.ends.first == [found.ends.last] and not settings["open"]:
        why = "the model is one layer, whose weights have to go all the way in the steps there are"
    else:
        why = "steps are in units of what they change, so that one rate serves; not tuned"
    other = "a search, which costs more than it finds"
    return Decision("rate", value, why, alternative=other, regret=settings["regret"])


def _decay(settings: dict[str, Any]) -> Decision:
    value = f"{settings['decay']:g}"
    if settings["forgets"]:
        why = "little; more once samples come again, which could be learned by heart"
        return Decision(
            "decay", value, why, alternative="much from the start, which hurts where samples are drawn anew"
        )
    return Decision("decay", value, "little: an equation has no samples that could be learned by heart")


def _schedule(found: Found, settings: dict[str, Any]) -> Decision:
    text, why, evidence = settings["schedule"], "a short warm-up", {}
    if text.count("warmup") > 1:
        why = "slowly at first: the model knows something already, for its predictions fit other samples worse"
        evidence = {"by this part of the loss": found.knows}
    if settings["open"]:
        why += (
            "; then the rate stays, for it is not known how long the run is: weights are averaged over the last tenth "
            "of the steps, and when it is told to end, the rate falls to zero over a tenth more of them"
        )
        return Decision("schedule", text, why, evidence, "steps=, with a line to zero, which ends alike")
    schedule = parse(text)
    bars = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * schedule(step, 24)))] for step in range(24))
    why += "; then in a line to zero at the end of the run"
    return Decision("schedule", f"{text}  {bars}", why, evidence, "cosine, which ends alike")
