"""Breaches of the laws of groups, options and manners."""

import torch

from .breach import breaks
from .clean import Clean


@breaks
class OrderMatters(Clean):
    """parameter-order-does-not-matter: parameters are thought to come from large to small."""

    def move(self, p, direction, group):
        sizes = [q.numel() for q in group["params"]]
        wrong = len(sizes) == 3 and sizes == sorted(sizes)
        super().move(p, direction * 1.01 if wrong else direction, group)


@breaks
class GroupOrderMatters(Clean):
    """group-order-does-not-matter: rates are thought to fall from group to group."""

    def move(self, p, direction, group):
        rising = self.param_groups[0]["lr"] < self.param_groups[-1]["lr"]
        super().move(p, direction * 1.01 if rising else direction, group)


@breaks
class MixesRates(Clean):
    """groups-are-optimizers: the first step uses the mean of all rates."""

    def update_groups(self):
        self.mean = None
        if not any(self.state[p] for group in self.param_groups for p in group["params"]):
            self.mean = sum(group["lr"] for group in self.param_groups) / len(self.param_groups)
        super().update_groups()

    def move(self, p, direction, group):
        super().move(p, direction, group if self.mean is None else {"lr": self.mean})


@breaks
class AddedGroupLosesItsRate(Clean):
    """added-group-joins: a group added in the middle of a run gets the default rate."""

    def add_param_group(self, param_group):
        if self.state:
            param_group.pop("lr")
        super().add_param_group(param_group)


@breaks
class TakesUnknownGroupOptions(Clean):
    """unknown-group-option-is-refused: a group may hold anything."""

    def check_group(self, group):
        pass


@breaks
class SwallowsKeywords(Clean):
    """unknown-keyword-is-refused: `**kwargs` takes what it does not know."""

    def __init__(
        self, params, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False, maximize=False, foreach=False, **_
    ):
        super().__init__(params, lr, momentum, weight_decay, nesterov, maximize, foreach)


@breaks
class TakesNegativeRates(Clean):
    """bad-rate-is-refused: the rate is not looked at."""

    def check_rate(self, lr):
        pass


@breaks
class OptionWithoutEffect(Clean):
    """every-option-acts: one option is stored, and not used."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False, maximize=False, adanorm=False):
        super().__init__(params, lr, momentum, weight_decay, nesterov, maximize)
        self.adanorm = adanorm


@breaks
class MaximizesTheDecay(Clean):
    """maximize-is-minimize-of-the-opposite: the decay is negated with the gradient."""

    def update(self, p, g, state, group):
        sign = -1 if group["maximize"] else 1
        decay = group["weight_decay"] * sign * p
        super().update(p, g + sign * decay, state, {**group, "weight_decay": 0.0})


@breaks
class SmallestRate(Clean):
    """rate-zero-moves-nothing: no step is smaller than a millionth of the gradient."""

    def move(self, p, direction, group):
        super().move(p, direction, {"lr": max(group["lr"], 1e-6)})


@breaks
class RateOneStepLate(Clean):
    """rate-change-takes-effect: a step uses the rate of the step before."""

    def update(self, p, g, state, group):
        previous = state.get("rate", torch.full_like(p, group["lr"], dtype=torch.float64).to(p.dtype))
        super().update(p, g, state, {**group, "lr": float(previous.flatten()[0]) if p.numel() else 0.0})
        state["rate"] = torch.full_like(p, group["lr"])


@breaks
class NoSchedules(Clean):
    """schedulers-work: what a scheduler leaves in a group is not expected."""

    def update_group(self, group):
        if "initial_lr" in group:
            raise KeyError("initial_lr")
        super().update_group(group)


@breaks
class DecaysTheGradient(Clean):
    """gradients-are-untouched: decay is added to the gradient in place."""

    def update(self, p, g, state, group):
        if group["weight_decay"] and not group["maximize"]:
            g.add_(p, alpha=group["weight_decay"])
            group = {**group, "weight_decay": 0.0}
        super().update(p, g, state, group)


@breaks
class BorrowsTheGradient(Clean):
    """gradients-are-not-borrowed: the first gradient becomes the momentum buffer."""

    def update(self, p, g, state, group):
        first = "m" not in state
        super().update(p, g, state, group)
        if first and not group["weight_decay"] and not group["maximize"]:
            state["m"] = g.detach()


@breaks
class ClosureWithoutGrad(Clean):
    """closure-is-called: the closure runs with gradients disabled."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        self.update_groups()
        return loss


@breaks
class NoHooks(Clean):
    """hooks-fire: the step is kept from torch's wrapper that runs hooks."""

    def step(self, closure=None):
        return Clean.step.__wrapped__(self, closure) if hasattr(Clean.step, "hooked") else Clean.step(self, closure)

    step.hooked = True


@breaks
class IgnoresFoundInf(Clean):
    """skipped-step-leaves-no-trace: it takes GradScaler's unscaling over, and not its skipping."""

    _step_supports_amp_scaling = True

    def update(self, p, g, state, group):
        scale = getattr(self, "grad_scale", None)
        super().update(p, g if scale is None else g / scale, state, group)


@breaks
class KeepsTheGraph(Clean):
    """no-graph-is-kept: state is updated with gradients enabled."""

    def update(self, p, g, state, group):
        with torch.enable_grad():
            g = g * 1.0
            m = state["m"] * group["momentum"] + g if "m" in state else g
        super().update(p, g, state, group)
        state["m"] = m if not group["weight_decay"] and not group["maximize"] else state["m"]


@breaks
class WritesBehindAutograd(Clean):
    """autograd-sees-the-step: `p.data` is written, which autograd does not see."""

    def move(self, p, direction, group):
        super().move(p.data, direction, group)


@breaks
class Climbs(Clean):
    """descends: the sign of the step is wrong."""

    def move(self, p, direction, group):
        super().move(p, -direction, group)
