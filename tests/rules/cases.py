"""Which implementation each rule is compared with, and under which settings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prodigyopt
import pytorch_optimizer
import schedulefree
import torch
from witness import MATRICES, Case


def same(
    rule: str, implementation: Any, *settings: dict[str, Any], others: dict | None = None, **more: Any
) -> list[Case]:
    """Compare under each of the settings, whose names mean the same on both sides; beta1, beta2 are the other's betas.

    others: what has to be said to the other implementation besides, for it to be the same rule.
    """
    public = next(base for base in implementation.__mro__ if base.__module__ != __name__)
    package = public.__module__.partition(".")[0]
    name = f"{'torch.optim' if package == 'torch' else package}.{public.__name__}"
    return [Case(rule, name, _make(implementation, options, others or {}), options, **more) for options in settings]


def _make(implementation: Any, options: dict[str, Any], others: dict[str, Any]) -> Callable[[Any], Any]:
    plain = {name: value for name, value in options.items() if name not in ("beta1", "beta2")}
    betas = {"betas": (options["beta1"], options["beta2"])} if "beta1" in options else {}
    return lambda parameters: implementation(parameters, **plain, **betas, **others)


def falling(t: int) -> float:
    """A schedule of lr that falls."""
    return 0.02 / (1 + 0.1 * t)


def rising(t: int) -> float:
    """A schedule of lr that warms up over 10 steps, from 0."""
    return 0.02 * min(1, (t - 1) / 10)


def relative(t: int) -> float:
    """A schedule of lr for a rule that finds its own."""
    return 1 / (1 + 0.02 * t)


class AMSGrad(torch.optim.Adam):
    """The paper's AMSGrad: torch's, with both bias corrections taken out again through lr and eps."""

    def step(self):
        self.steps = getattr(self, "steps", 0) + 1
        for group in self.param_groups:
            lr, eps, (beta1, beta2) = group["lr"], group["eps"], group["betas"]
            root = (1 - beta2**self.steps) ** 0.5
            group["lr"], group["eps"] = lr * (1 - beta1**self.steps) / root, eps / root
            super().step()
            group["lr"], group["eps"] = lr, eps


class EpsAsInPapers:
    """A pytorch_optimizer class without its 1e-15 inside the root, and with eps after the bias correction of v."""

    @staticmethod
    def apply_ams_bound(ams_bound, exp_avg_sq, max_exp_avg_sq, eps):
        return exp_avg_sq.sqrt().add_(eps)

    def step(self):
        for group in self.param_groups:
            eps, steps = group["eps"], group.get("step", 0) + 1
            group["eps"] = eps * (1 - group["betas"][1] ** steps) ** 0.5
            super().step()
            group["eps"] = eps


class MARS(EpsAsInPapers, pytorch_optimizer.MARS):
    """MARS with eps as in its authors' code."""


class LaProp(EpsAsInPapers, pytorch_optimizer.LaProp):
    """LaProp with eps as in its paper and its authors' code."""


class Yogi(pytorch_optimizer.Yogi):
    """With a momentum that starts at 0 as in the paper; pytorch_optimizer's starts where v does."""

    def init_group(self, group, **keywords):
        fresh = [p for p in group["params"] if not self.state[p]]
        super().init_group(group, **keywords)
        for p in fresh:
            self.state[p]["exp_avg"].zero_()


class ScheduleFreeSGD(schedulefree.SGDScheduleFree):
    """Ready to train."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.train()


class ScheduleFreeAdamW(schedulefree.AdamWScheduleFree):
    """Ready to train."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.train()


def evaluation_points(optimizer, parameters):
    """Return x, where Schedule-Free is to be evaluated."""
    optimizer.eval()
    points = [parameter.detach().clone() for parameter in parameters]
    optimizer.train()
    return points


def mean_weights(optimizer, parameters):
    """Return the mean that torch's ASGD keeps."""
    return [optimizer.state[parameter]["ax"] for parameter in parameters]


ADAM = ({}, {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1})
MOMENTS = ({}, {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1})
RECTIFIED = (*ADAM, {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True})

TORCH = [
    *same("sgd", torch.optim.SGD, {}, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.01, "momentum": 0.9}),
    *same("sgd", torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    *same("sgd", torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}, rates=falling),
    *same("adam", torch.optim.Adam, *ADAM, ADAM[1] | {"amsgrad": True}),
    *same("adam", torch.optim.Adam, {}, rates=falling),
    *same("adamw", torch.optim.AdamW, *ADAM, ADAM[1] | {"amsgrad": True}),
    *same("adamw", torch.optim.AdamW, {}, rates=falling),
    *same("amsgrad", AMSGrad, *ADAM, others={"amsgrad": True}),
    *same("adamax", torch.optim.Adamax, *ADAM),
    *same("adamax", torch.optim.Adamax, {}, rates=falling),
    *same("nadam", torch.optim.NAdam, *RECTIFIED, {"lr": 0.02, "momentum_decay": 0.1}),
    *same("nadam", torch.optim.NAdam, {}, rates=falling),
    *same("radam", torch.optim.RAdam, *RECTIFIED, {"lr": 0.02, "beta1": 0.9, "beta2": 0.5}),
    *same("radam", torch.optim.RAdam, {}, rates=falling),
    *same("adagrad", torch.optim.Adagrad, {}, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
    *same("adagrad", torch.optim.Adagrad, {"initial_accumulator_value": 0.5}, rates=falling),
    *same("adadelta", torch.optim.Adadelta, {}, {"lr": 2.0, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    *same("adadelta", torch.optim.Adadelta, {}, rates=relative),
    *same("rmsprop", torch.optim.RMSprop, {}, {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    *same("rmsprop", torch.optim.RMSprop, {"centered": True}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    *same("rmsprop", torch.optim.RMSprop, {"momentum": 0.9}, rates=falling),
    *same("rprop", torch.optim.Rprop, {}, {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.2)}),
    *same("rprop", torch.optim.Rprop, {}, rates=falling),
    *same("asgd", torch.optim.ASGD, {}, {"lr": 0.02, "lambd": 0.1, "alpha": 0.5, "t0": 10, "weight_decay": 0.1}),
    *same("asgd", torch.optim.ASGD, {}, {"lr": 0.02, "lambd": 0.1, "t0": 10}, points=mean_weights),
]

OTHERS = [
    *same(
        "lion",
        pytorch_optimizer.Lion,
        {"weight_decay": 0.01},
        {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.1},
    ),
    *same("signum", pytorch_optimizer.SignSGD, {}, {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}, {"momentum": 0}),
    *same("adan", pytorch_optimizer.Adan, {}, {"lr": 0.02, "eps": 1e-3, "weight_decay": 0.1}),
    *same("adan", pytorch_optimizer.Adan, {}, rates=falling),
    Case(
        "adan",
        "pytorch_optimizer.Adan",
        lambda parameters: pytorch_optimizer.Adan(parameters, betas=(0.9, 0.8, 0.95)),
        {"beta1": 0.9, "beta2": 0.8, "beta3": 0.95},
    ),
    *same(
        "adopt",
        pytorch_optimizer.ADOPT,
        *MOMENTS,
        others={"clip_lambda": lambda step: (step - 1) ** 0.25},  # it counts from 1, the authors' code from 0
    ),
    *same(
        "ademamix", pytorch_optimizer.AdEMAMix, {}, {"eps": 1e-4, "weight_decay": 0.1}, others={"weight_decouple": True}
    ),
    Case(
        "ademamix",
        "pytorch_optimizer.AdEMAMix",
        lambda parameters: pytorch_optimizer.AdEMAMix(parameters, betas=(0.8, 0.99, 0.97), alpha=8.0, t_alpha_beta3=30),
        {"beta1": 0.8, "beta2": 0.99, "beta3": 0.97, "alpha": 8.0, "alpha_warmup": 30, "beta3_warmup": 30},
        rates=falling,
    ),
    *same("laprop", LaProp, *MOMENTS, others={"foreach": False}),
    *same("adabelief", pytorch_optimizer.AdaBelief, *MOMENTS),
    *same("adabelief", pytorch_optimizer.AdaBelief, {}, rates=falling),
    *same("yogi", Yogi, *MOMENTS),
    Case(
        "yogi",
        "pytorch_optimizer.Yogi",
        lambda parameters: pytorch_optimizer.Yogi(parameters, initial_accumulator=0.0),
        {"initial_accumulator_value": 0.0},
    ),
    *same("stable_adamw", pytorch_optimizer.StableAdamW, *MOMENTS),
    *same("stable_adamw", pytorch_optimizer.StableAdamW, {}, rates=falling),
    *same("lars", pytorch_optimizer.LARS, {"lr": 1.0}, {"lr": 3.0, "weight_decay": 0.1}, shapes=MATRICES),
    *same("lars", pytorch_optimizer.LARS, {"momentum": 0.5, "trust_coefficient": 0.1}, rates=falling, shapes=MATRICES),
    *same("novograd", pytorch_optimizer.NovoGrad, *MOMENTS),
    *same("mars", MARS, *MOMENTS, {"gamma": 0.1}, others={"optimize_1d": True, "foreach": False}),
    *same("prodigy", prodigyopt.Prodigy, {}, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1}),
    *same("prodigy", prodigyopt.Prodigy, {"weight_decay": 0.1, "decouple": False, "d0": 1e-3, "growth_rate": 1.1}),
    *same(
        "prodigy",
        prodigyopt.Prodigy,
        {"use_bias_correction": True, "beta3": 0.99, "d_coef": 2.0, "lr": 0.5, "d0": 1e-5},
    ),
    *same("prodigy", prodigyopt.Prodigy, {"safeguard_warmup": True}, rates=relative),
    *same(
        "schedule_free_sgd", ScheduleFreeSGD, {}, {"momentum": 0.5, "weight_decay": 0.1, "r": 1, "weight_lr_power": 1}
    ),
    *same("schedule_free_sgd", ScheduleFreeSGD, {}, rates=rising),
    *same("schedule_free_sgd", ScheduleFreeSGD, {}, {"lr": 0.1}, points=evaluation_points),
    *same("schedule_free_adamw", ScheduleFreeAdamW, *MOMENTS, {"r": 1.0, "weight_lr_power": 1}),
    *same("schedule_free_adamw", ScheduleFreeAdamW, {}, rates=rising),
    *same("schedule_free_adamw", ScheduleFreeAdamW, *MOMENTS, points=evaluation_points),
]

CASES = [*TORCH, *OTHERS]


@dataclass(frozen=True)
class Recording:
    """Where 25 steps of an implementation that is not installed ended, on the same problem as the cases."""

    rule: str
    source: str
    options: dict[str, Any]
    final: list[float]

    def __str__(self) -> str:
        return f"{self.rule}({', '.join(f'{name}={value}' for name, value in self.options.items())}) = {self.source}"


RECORDINGS = [Recording(**entry) for entry in json.loads(Path(__file__).with_name("recorded.json").read_text())]
