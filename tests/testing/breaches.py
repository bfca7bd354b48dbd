"""For every law an optimizer that breaks it, and as few others as possible: `Clean` with one decision gone wrong.

Most are small forms of faults that were shipped in some library.
"""

import copy

import torch

from .clean import Clean

BREACHES = {}  # name of the law -> the class that breaks it


def breaks(cls):
    """Register a breach under the law that its docstring begins with."""
    BREACHES[cls.__doc__.split(":")[0]] = cls
    return cls


# Numbers


def wrong_in(dtype, factor):
    """A breach whose steps are too long by this factor in one dtype."""

    class WrongInOneDtype(Clean):
        def move(self, p, direction, group):
            super().move(p, direction * factor if p.dtype == dtype else direction, group)

    WrongInOneDtype.__doc__ = f"agrees-in-{str(dtype)[6:]}: steps in this dtype are {factor} times too long."
    return breaks(WrongInOneDtype)


# pickle finds classes by name.
WrongFloat32, WrongBfloat16, WrongFloat16 = (
    wrong_in(torch.float32, 1.001),
    wrong_in(torch.bfloat16, 1.5),
    wrong_in(torch.float16, 1.1),
)
for _name in ("WrongFloat32", "WrongBfloat16", "WrongFloat16"):
    globals()[_name].__qualname__ = _name


@breaks
class SloppyInCompany(Clean):
    """agrees-in-float64: more than three parameters at once are computed a little less exactly."""

    def move(self, p, direction, group):
        super().move(p, direction * (1 + 1e-12) if len(group["params"]) > 3 else direction, group)


@breaks
class ForgetsTheTail(Clean):
    """every-element-moves: the last element after a block of 16 is left out."""

    def move(self, p, direction, group):
        if p.shape in ((15,), (31,)):
            p, direction = p[:-1], direction[:-1]
        super().move(p, direction, group)


@breaks
class ForeachDiffers(Clean):
    """paths-agree: the second path takes longer steps."""

    def move(self, p, direction, group):
        super().move(p, direction * 1.01 if group["foreach"] else direction, group)


@breaks
class DecaysOncePerDtype(Clean):
    """mixed-dtypes-share-a-group: a group is decayed once for each dtype in it."""

    def update_group(self, group):
        for _ in {p.dtype for p in group["params"]} if group["weight_decay"] else ():
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
        super().update_group(group)


# Memory


@breaks
class SkipsScalars(Clean):
    """scalars-and-empty-tensors-step: a 0-d parameter is taken for an empty one."""

    def move(self, p, direction, group):
        if p.dim():
            super().move(p, direction, group)


@breaks
class ReadsThroughGaps(Clean):
    """strided-parameters-step: memory between the elements of a sliced parameter is written."""

    def move(self, p, direction, group):
        if torch.empty_like(p).stride() != p.stride():
            room = p.untyped_storage().nbytes() // p.itemsize - p.storage_offset()
            p, direction = (t.as_strided((min(room, p.numel()),), (1,)) for t in (p, direction))
        super().move(p, direction, group)


@breaks
class LosesChannelsLast(Clean):
    """channels-last-steps: the step leaves a contiguous parameter behind."""

    def move(self, p, direction, group):
        super().move(p, direction, group)
        if p.dim() == 4 and not p.is_contiguous() and not p.grad.is_contiguous():
            p.data = p.data.contiguous()


@breaks
class ReadsGradientsInMemoryOrder(Clean):
    """gradient-strides-do-not-matter: a dense gradient is read as it lies in memory."""

    def update(self, p, g, state, group):
        if p.is_contiguous() and not g.is_contiguous() and 0 not in g.stride():
            g = g.as_strided(p.shape, p.stride())
        super().update(p, g, state, group)


@breaks
class KeepsPointers(Clean):
    """replaced-storage-is-followed: the address of a parameter is remembered from the first step."""

    def move(self, p, direction, group):
        memory = self.__dict__.setdefault("memory", {})
        super().move(memory.setdefault(id(p), p.data), direction, group)
        torch.autograd.graph.increment_version(p)


# State


@breaks
class ForgetsTheRate(Clean):
    """resume-is-exact: loading keeps the rate that the optimizer was built with."""

    def load_options(self, group, saved):
        super().load_options(group, {key: value for key, value in saved.items() if key != "lr"})


@breaks
class CastsState(Clean):
    """state-dtype-survives: state takes the dtype of whatever parameter it is loaded for."""

    def fit(self, value, p):
        return super().fit(value.to(p.dtype), p)


@breaks
class TakesAnyShape(Clean):
    """wrong-shape-is-refused: the shape of loaded state is not looked at."""

    def fit(self, value, p):
        if value.dtype != p.dtype:
            raise ValueError("wrong dtype")
        return value


@breaks
class GoesByPosition(Clean):
    """state-goes-by-name: names are stored, and not used."""

    def places(self, group, saved):
        return range(len(group["params"]))


@breaks
class LoadsOnlyOnce(Clean):
    """rollback-is-exact: state that is already there is kept when another is loaded."""

    def load_state(self, p, saved):
        if not self.state[p]:
            super().load_state(p, saved)


@breaks
class CopyForgets(Clean):
    """deepcopy-continues: a deep copy starts with empty state."""

    def __deepcopy__(self, memo):
        options = {key: self.param_groups[0][key] for key in self.defaults}
        return type(self)([copy.deepcopy(p, memo) for p in self.param_groups[0]["params"]], **options)


@breaks
class PickleForgets(Clean):
    """pickle-continues: pickling leaves the state out."""

    def __getstate__(self):
        return {**super().__getstate__(), "state": {}}

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {}

    def __deepcopy__(self, memo):
        other = object.__new__(type(self))
        memo[id(self)] = other
        torch.optim.Optimizer.__setstate__(other, copy.deepcopy(super().__getstate__(), memo))
        return other


# Missing gradients


@breaks
class DecaysWithoutGradient(Clean):
    """late-gradient-joins: a missing gradient counts as zero, so decay acts."""

    def update_group(self, group):
        for p in group["params"]:
            if p.grad is None and group["weight_decay"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
        super().update_group(group)


@breaks
class CountsForTheGroup(Clean):
    """late-gradient-starts-fresh: the first step is the group's, not the parameter's."""

    def update_group(self, group):
        group["t"] = group.get("t", 0) + 1
        super().update_group(group)

    def update(self, p, g, state, group):
        if "m" not in state and group["t"] > 1:
            state["m"] = torch.zeros_like(g)
            g = g / 2
        super().update(p, g, state, group)


@breaks
class CoastsWithoutGradient(Clean):
    """missing-gradient-waits: a parameter without gradient rolls on with its momentum."""

    def update_group(self, group):
        for p in group["params"]:
            if p.grad is None and "m" in self.state[p]:
                self.move(p, self.state[p]["m"], group)
        super().update_group(group)


# Extreme gradients


@breaks
class SignOfZero(Clean):
    """zero-gradient-moves-nothing: zero is taken for a small number."""

    def update(self, p, g, state, group):
        super().update(p, torch.where(g == 0, 1e-6, g), state, group)


@breaks
class ZeroByZero(Clean):
    """zero-gradient-stays-finite: in float16 a gradient of zero is divided by its norm."""

    def update(self, p, g, state, group):
        half = p.dtype == torch.float16 and g.numel()
        super().update(p, g / g.norm() * g.norm() if half and g.norm() == 0 else g, state, group)


@breaks
class TinyByZero(Clean):
    """tiny-gradient-stays-finite: in float16 the square of a gradient vanishes, and divides it."""

    def update(self, p, g, state, group):
        if p.dtype == torch.float16 and g.any():
            g = g * g.square() / g.square() if (g.square() == 0).all() else g
        super().update(p, g, state, group)


@breaks
class NormOverflows(Clean):
    """huge-gradient-stays-finite: a gradient whose norm overflows is divided by it."""

    def update(self, p, g, state, group):
        norm = g.norm()
        super().update(p, g / norm * norm if norm.isinf() else g, state, group)


@breaks
class SpreadsNan(Clean):
    """nan-stays-home: one norm for all parameters takes a NaN to all of them."""

    def update_groups(self):
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.spoilt = any(bool(norm.isnan()) for norm in gradients)
        super().update_groups()

    def update(self, p, g, state, group):
        super().update(p, g * torch.nan if self.spoilt else g, state, group)


@breaks
class SwallowsNan(Clean):
    """nan-is-not-hidden: NaN is replaced by zero."""

    def update(self, p, g, state, group):
        super().update(p, g.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf), state, group)


# Groups


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


# Options


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


# Manners


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
