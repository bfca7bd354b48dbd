"""Breaches of the laws of state, and of gradients that are missing or extreme."""

import copy

import torch

from .breach import breaks
from .clean import Clean


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
