"""The model is too small for the task."""

from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import roles
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.spy import CRITERIA, Call
from steepest.doctor.trial import probe
from steepest.doctor.twin import Twin

NARROW, WIDE = 4, 64
"""Units of the narrowest hidden layer where it is tried, and of the network it is compared with."""

BETTER = 0.15
"""Part of the scale by which the wide network has to be better."""


@cause(
    "C12",
    "too-narrow",
    fix="Make hidden layers wider: no layer between should have fewer units than what has to pass through it.",
    when=MARK,
    weight=REPLAYED - 0.3,
    masks="D15 D18 D21",
)
def too_narrow(lab: Lab) -> Found | None:
    """Training and validation loss both stay on a plateau.

    A hidden layer has but a few units, fewer than the model's inputs. A wide network, trained on the same batches in
    the same number of steps, has a much lower loss.
    """
    if lab.loss is None or lab.now < 55 or lab.event is not None or lab.gain > 0.85 or lab.scale is None:
        return None
    narrow, part = _narrowest(lab), roles(lab)
    if narrow is None or narrow > NARROW or part.target is None or part.target in part.inputs or not part.known:
        return None
    if "wide" not in lab.notes or lab.notes["wide"][0] != len(lab.history.first):
        lab.notes["wide"] = len(lab.history.first), _reference(lab, part.inputs)
    told, now = lab.notes["wide"][1], probe(lab, Twin(lab.twin(), lab.optimizer, lab.now))
    if told is None or now - told < BETTER * lab.scale / lab.way.factor:
        return None
    summary = (
        f"The narrowest hidden layer has {narrow} units; a network of {WIDE} has a loss of {told:.3g} after the same "
        f"batches where it is {now:.3g}."
    )
    return Found(summary, {"units": narrow, "loss of a wide one": told, "loss": now}, True)


def _narrowest(lab: Lab) -> int | None:
    """Return the units of the narrowest layer but the last, None where that is no less than its inputs."""
    sizes: list[tuple[int, int]] = []
    for module in lab.model.modules():
        if isinstance(module, nn.Linear):
            sizes.append((module.in_features, module.out_features))
        elif isinstance(module, nn.RNNBase):
            sizes.append((module.input_size, module.hidden_size))
        elif isinstance(module, nn.modules.conv._ConvNd):
            sizes.append((module.in_channels * module.kernel_size[0], module.out_channels))
    hidden = [out for _, out in sizes[:-1]]
    return min(hidden) if hidden and sizes[-1][0] <= max(hidden) else None


def _reference(lab: Lab, inputs: list[int]) -> float | None:
    """Return the late loss of a wide network that is trained on the first batches, twice; by the criterion itself."""
    passes = lab.passes()
    model: nn.Sequential | None = None
    optimizer: Any = None
    losses: list[float] = []
    twin = lab.twin()
    for turn in range(2):
        for of in passes:
            calls = lab.watched(of, twin).criteria
            own = [list(tensors(of.batch))[place] for place in inputs]
            if len(calls) != 1 or not all(each.is_floating_point() for each in own):
                return None
            x = torch.cat([each.reshape(len(each), -1).float() for each in own], 1).detach()
            if model is None:
                model = _wide(x, calls[0])
                optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            value = _criterion(model, x, calls[0])
            if value is None:
                return None
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses += [float(value.detach())] if turn else []
    return sum(losses[-16:]) / len(losses[-16:]) if losses else None


def _wide(x: Tensor, call: Call) -> nn.Sequential:
    torch.manual_seed(0)
    outputs = max(1, call.prediction.numel() // len(x))
    return nn.Sequential(
        nn.Linear(x.shape[1], WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, outputs)
    )


def _criterion(model: nn.Module, x: Tensor, call: Call) -> Tensor | None:
    made = model(x)
    if made.numel() != call.prediction.numel() or call.function not in CRITERIA or len(call.inputs) != 2:
        return None
    value = call.function(made.reshape(call.prediction.shape), call.target, **call.options)
    return value if value.ndim == 0 else None


def demo(run: Demo) -> None:
    """Hidden layers of one unit."""
    model = run.network(outputs=8, wide=2 if run.faulty else 32)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes(1500, 8), 4))
