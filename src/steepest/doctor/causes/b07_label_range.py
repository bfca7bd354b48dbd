"""Targets are not in the range that the loss is made for."""

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EXACT, MARK, STATISTIC, Found, cause
from steepest.doctor.data import pooled, roles
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import Call, Seen

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
SQUARES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
BOUNDED = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0)}
LOGS = ("log", "logsigmoid", "log_sigmoid", "softplus", "log1p")

CHECKED = 6
"""Batches that are looked at."""


FIX = "Map the targets to what the loss is made for: 0 and 1 for binary losses, 0 to K - 1 for classes, -100 for none."


@cause(
    "B07",
    "label-range",
    fix=FIX,
    when=MARK,
    weight=EXACT,
    masks="B05 B08 C D E05",
)
def label_range(lab: Lab) -> Found | None:
    """The loss is negative or falls without end, or has an odd floor.

    While the loss of a batch is computed, its criterion is given a target that it is not made for: below 0 or above 1
    for a binary one, rows that do not sum to 1 for a cross-entropy, 0 and 1 for one of margins, or values that the
    output cannot reach. What it would be for predictions without bound is computed, and it falls without end.
    """
    passes = lab.passes(CHECKED)
    if lab.loss is None or not passes:
        return None
    if "targets" not in lab.notes or lab.notes["targets"][0] != len(passes):
        model = lab.twin()
        told = [_wrong(lab.watched(of, model), _floats(of.batch)) for of in passes]
        lab.notes["targets"] = len(passes), told
    told = [each for each in lab.notes["targets"][1] if each is not None]
    if len(told) < max(1, len(passes) // 2):
        return None
    summary, low, high = told[0]
    return Found(summary, {"least": low, "most": high, "batches": len(told)}, True)


FEW, MUCH = 50, 0.5
"""Places that say anything; share of places that seem not to count, at least."""


@cause("B07", "label-range", fix=FIX, when=MARK, weight=STATISTIC, masks="B08 C D")
def padding_counts(lab: Lab) -> Found | None:
    """The loss is low at once, and what it is of is hardly learned.

    Tokens are given, and one is to be told for each place. Where a certain one of them is given, the target is any;
    wherever another one is, it is one and the same class, as a tokenizer pads: these places are not meant to count.
    """
    part, passes = roles(lab), lab.passes()
    if lab.loss is None or not part.known or part.target is None or part.target in part.inputs or len(part.inputs) != 1:
        return None
    columns = pooled(passes, 4000)
    if columns is None or columns[part.inputs[0]].shape != columns[part.target].shape:
        return None
    given, told = columns[part.inputs[0]].flatten(), columns[part.target].flatten()
    if given.is_floating_point() or told.is_floating_point() or columns[part.target].ndim < 2:
        return None
    usual = int(told.mode().values)
    holes = given[told != usual].unique()
    at = given == holes[0] if len(holes) == 1 else torch.zeros_like(given, dtype=torch.bool)
    share = float((~at).double().mean())
    if usual < 0 or int(at.sum()) < FEW or share < MUCH or len(given[~at].unique()) < 3 or len(told[at].unique()) < 3:
        return None
    summary = (
        f"The target is {usual} wherever the token is not {int(holes[0])}, in {share:.0%} of all places: mark those "
        "that do not count by the ignore_index of cross_entropy, -100."
    )
    return Found(summary, {"class": usual, "token": int(holes[0]), "share": share})


def _floats(batch: object) -> list[Tensor]:
    return [each for each in tensors(batch) if each.ndim and each.numel() > 1]


def _wrong(seen: Seen, batch: list[Tensor]) -> tuple[str, float, float] | None:
    """Return what is wrong with the target of a loss, and its range; None where nothing is."""
    for call in seen.criteria:
        if not call.target.numel():
            continue
        told = _of_criterion(call, seen)
        if told is not None:
            return told, float(call.target.min()), float(call.target.max())
    if seen.criteria:
        return None
    return _by_hand(seen, batch)


def _of_criterion(call: Call, seen: Seen) -> str | None:
    target = call.target.detach().double()
    low, high = float(target.min()), float(target.max())
    if call.name in BINARY and (low < -1e-4 or high > 1 + 1e-4) and _falls(call):
        return f"The targets of {call.name} go from {low:.3g} to {high:.3g}; it is made for 0 to 1."
    if call.name == "cross_entropy" and call.target.is_floating_point() and call.target.shape == call.prediction.shape:
        sums = target.sum(1)
        if low < -1e-4 or float((sums - sums.mean()).abs().max()) < 1e-3 < abs(float(sums.mean()) - 1) * 0.1:
            return f"The rows of the targets of cross_entropy sum to {float(sums.mean()):.3g}; they are to be shares."
    if call.name == "poisson_nll_loss" and low < 0:
        return f"The targets of poisson_nll_loss go down to {low:.3g}; they are to be counts."
    if call.name in SQUARES:
        return _unreachable(call, seen, target)
    return None


def _falls(call: Call) -> bool:
    """Return whether the loss falls without end as the prediction goes to one side, as it cannot with a fit target."""
    target, losses = call.target.detach().double(), []
    for size in (10.0, 20.0, 40.0):
        prediction = torch.where(target > 0.5, size, -size)
        losses.append(float((nn.functional.softplus(prediction) - target * prediction).mean()))
    return losses[2] < losses[1] < losses[0] and losses[2] < 0


def _unreachable(call: Call, seen: Seen, target: Tensor) -> str | None:
    made = next((each for each in reversed(seen.calls) if each.output is call.prediction), None)
    while made is not None and made.name in ("squeeze", "reshape", "view", "flatten", "__getitem__") and made.inputs:
        before = made.inputs[0]
        made = next((each for each in reversed(seen.calls) if each.output is before), None)
    if made is None or made.name not in BOUNDED:
        return None
    low, high = BOUNDED[made.name]
    beyond = float(((target < low - 0.05) | (target > high + 0.05)).double().mean())
    if beyond < 0.2:
        return None
    return f"{beyond:.0%} of the targets lie beyond what the {made.name} at the end can give, {low:g} to {high:g}."


def _by_hand(seen: Seen, batch: list[Tensor]) -> tuple[str, float, float] | None:
    """Look at a loss that is written out: labels -1 and 1 in one of logarithms, 0 and 1 in one of margins."""
    names = {call.name for call in seen.calls}
    for target in batch:
        values = set(target.detach().double().unique().tolist()) if target.numel() < 10**6 else set()
        if not values or len(values) > 3 or not _multiplies(seen, target):
            continue
        if values == {-1.0, 1.0} and _mirrored(seen, target) and names & set(LOGS):
            return "Labels are -1 and 1 in a loss that multiplies logarithms by them and by what they lack to 1.", -1, 1
        if (
            values == {0.0, 1.0}
            and names & {"relu", "clamp", "clamp_min"}
            and not names & set(LOGS)
            and (not _mirrored(seen, target) and not _turned(seen, target))
        ):
            return "Labels are 0 and 1 in a loss of margins, which wants -1 and 1.", 0, 1
    return None


def _multiplies(seen: Seen, target: Tensor) -> bool:
    return any(_uses(call.inputs, target) and "mul" in call.name for call in seen.calls)


def _uses(inputs: tuple[Tensor, ...], target: Tensor) -> bool:
    return any(each is target or each.data_ptr() == target.data_ptr() for each in inputs)


def _mirrored(seen: Seen, target: Tensor) -> bool:
    """Return whether 1 - target is computed."""
    return any(call.name in ("rsub", "__rsub__") and _uses(call.inputs[:1], target) for call in seen.calls) or any(
        call.name == "sub" and len(call.inputs) > 1 and _uses(call.inputs[1:], target) for call in seen.calls
    )


def _turned(seen: Seen, target: Tensor) -> bool:
    """Return whether 2 * target - 1 is."""
    doubled = [call.output for call in seen.calls if "mul" in call.name and _uses(call.inputs, target)]
    return any(
        "sub" in call.name and any(each is one for each in call.inputs for one in doubled) for call in seen.calls
    )


def demo(run: Demo) -> None:
    """Labels are -1 and 1, and the loss wants 0 and 1."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0])[:, 0], batch[1])

    model = run.network(8, 1)
    x, kinds = run.classes(kinds=2)
    labels = kinds.float() * 2 - 1 if run.faulty else kinds.float()
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), loss, run.batches((x, labels), 4))
