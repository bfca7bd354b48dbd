"""A torch.optim.Optimizer for any update rule."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steepest.formula.symbol import SHARED
from steepest.kernels.batch import Graph, Run, Sums, together
from steepest.kernels.eager import EagerRun
from steepest.kernels.support import unsupported
from steepest.optim import checkpoint
from steepest.optim.graph import GRADIENT, MEASURES, Edits, trace
from steepest.optim.members import Members, kind_of
from steepest.optim.settings import OPTIONS, PATHS, check_names, check_values, front, hyper
from steepest.optim.stats import Measured, Stats
from steepest.rule import Rule
from steepest.rules import RULES

WHOLE = ("clip", "skip_nonfinite", "ema")
_TORCH = ("params", "param_names", "rule", "name")


class Optimizer(torch.optim.Optimizer):
    """Steps parameters by an update rule.

    params: tensors, (name, tensor) pairs, or groups as `steepest.groups` makes them; a group may name its own "rule" and
    override any option. rule: a rule or the name of one. The rule's hyper-parameters follow by keyword; lr is a number
    or a schedule. Options of every rule:

    clip: bound of the Euclidean norm of all gradients together, applied inside the step; `stats.gradient_norm` is the norm
        before. skip_nonfinite: leave everything as it is when a gradient is not finite, and count it in `stats.skipped`.
    ema: decay of a running mean of the weights, kept in the state and put in place by `with optimizer.averaged():`.
    cautious: move only where the update agrees with the gradient (arXiv:2411.16085).
    state_dtype: dtype of the states; float32 by default, also for bfloat16 parameters (float64 for float64).
    rounding: for bfloat16 parameters "nearest", "stochastic" (keeps the mean of many small steps) or "kahan" (keeps what
        rounding lost in a third tensor).
    maximize: ascend instead.

    Raises TypeError for an unknown option and ValueError for a value out of range.
    """

    rule: Rule

    def __init__(self, params: Any, rule: Rule | str | None = None, **options: Any) -> None:
        self.rule = _rule(rule if rule is not None else getattr(type(self), "rule", None))
        self._rules = {self.rule.name: self.rule}
        if options.pop("differentiable", False):
            raise ValueError("differentiable=True is not offered: a step writes in place, outside of autograd")
        check_names(options, [*front(self.rule), *OPTIONS, *WHOLE, *PATHS], type(self).__name__)
        self.clip, self.skip_nonfinite, self.ema = _whole(options)
        self.stats = Stats()
        self.measure = False
        self._members: dict[int, tuple[list[Members], list[Tensor]]] = {}
        self._shared: dict[str, float] = {}  # states that a rule has once for all parameters, as "rule.state"
        self._averaged = False
        defaults = {**front(self.rule), **OPTIONS, **{k: v for k, v in options.items() if k not in PATHS}}
        super().__init__(_parameters(params), defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own. Its keys: "params", "rule", and any option of the rule."""
        group = dict(param_group)
        rule = _rule(group.get("rule", self.rule))
        self._rules[rule.name] = rule
        known = {**front(rule), **OPTIONS}
        if not group.get("rule_checked"):
            check_names([k for k in group if k not in (*_TORCH, "initial_lr")], [*known, *PATHS], f"a group of {rule.name}")
        own = {name: self.defaults[name] for name in known if name in self.defaults}
        base = own if rule is self.rule else {**known, **{n: own[n] for n in ("lr", *OPTIONS) if n in own}}
        group = {**base, **group, "rule": rule.name}
        super().add_param_group(group)
        added = self.param_groups[-1]
        for name in [name for name in added if name not in (*known, *_TORCH, "initial_lr")]:
            del added[name]
        self._bind_schedule(added)
        check_values(rule, added)

    def _bind_schedule(self, group: dict[str, Any]) -> None:
        """Keep a schedule apart, so that group["lr"] is always the number in force."""
        group.pop("schedule", None)
        if callable(group["lr"]):
            group["schedule"] = group["lr"]
            group["lr"] = _scheduled(group["schedule"], 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient. closure: computes the loss anew; its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._averaged:
            raise RuntimeError("step() inside `with averaged()`: the weights are the running mean; leave the block first")
        for group in self.param_groups:
            if "schedule" in group:
                group["lr"] = _scheduled(group["schedule"], self.stats.steps + self.stats.skipped)
        pairs = [pair for group in self.param_groups for pair in self._runs(group)]
        self.stats.forget()
        done = together([run for _, run in pairs], self._proceed if self.clip or self.skip_nonfinite else None)
        if done is None:
            self.stats.skipped += 1
        else:
            self._conclude([members for members, _ in pairs], done)
        return loss

    def _runs(self, group: dict[str, Any]) -> Iterator[tuple[Members, Any]]:
        """Make ready one step of each batch of a group."""
        rule = self._rules[group["rule"]]
        values = hyper(rule, group)
        for members, gradients in self._present(group, rule):
            kind = members.kind
            low = kind.form.dtype in (torch.bfloat16, torch.float16)
            clip = self.clip if self.clip is not None else math.inf if self.skip_nonfinite else None
            edits = Edits(
                clip, self.ema, group["maximize"], group["cautious"], group["rounding"], low, self.measure
            )
            traced = trace(rule, edits, kind.form.matrix if rule.matrix else None, members.steps + 1, values)
            members.provide(self._stored(traced.program.states), lambda name, k=kind, g=group: _state_dtype(name, k, g))
            given = {**self._shared_states(rule), **self._seeds(members, traced)}
            graph = Graph(traced.program, traced.constants, rule.name)
            make = Run if kind.kernel else EagerRun
            yield members, make(members.batch, graph, gradients, given)

    def _present(self, group: dict[str, Any], rule: Rule) -> list[tuple[Members, list[Tensor]]]:
        """Return the batches of a group with their gradients, made anew when a gradient came or went."""
        batches, absent = self._members.get(id(group), ([], group["params"]))
        if all(p.grad is None for p in absent):
            pairs = [(members, members.gradients()) for members in batches]
            if all(gradients is not None for _, gradients in pairs):
                return pairs  # type: ignore[return-value]
        batches = self._batches(group, rule)
        self._members[id(group)] = (batches, [p for p in group["params"] if p.grad is None])
        return [(members, members.gradients()) for members in batches]  # type: ignore[misc]

    def _batches(self, group: dict[str, Any], rule: Rule) -> list[Members]:
        kinds: dict[Any, list[Tensor]] = {}
        for p in group["params"]:
            if p.grad is not None:
                kind = kind_of(p, rule, self.state[p], group["blocks"], not unsupported(p))
                kinds.setdefault(kind, []).append(p)
        return [Members(kind, parameters, self.state, rule) for kind, parameters in kinds.items()]

    def _stored(self, states: dict[str, str]) -> dict[str, str]:
        return {name: shape for name, shape in states.items() if shape != SHARED and name not in (*MEASURES, "seed")}

    def _shared_states(self, rule: Rule) -> dict[str, float]:
        return {n: self._shared.get(f"{rule.name}.{n}", 0.0) for n, shape in rule.states.items() if shape == SHARED}

    def _seeds(self, members: Members, traced: Any) -> dict[str, Any]:
        """Give each tensor its own noise at each step, the same in every run: for stochastic rounding."""
        if "seed" not in traced.program.states:
            return {}
        places = {p: place for place, p in enumerate(p for group in self.param_groups for p in group["params"])}
        salt = torch.tensor([places[p] for p in members.parameters], dtype=torch.float64)
        salt = salt.repeat_interleave(members.kind.form.blocks)
        return {"seed": (salt * 7919 + (members.steps + 1) * 104729) % (1 << 24)}

    def _proceed(self, sums: Sums) -> bool:
        """Note the gradient norm as soon as it is known; say whether the step may be taken."""
        squares = sums.get((GRADIENT, 0))
        if squares is None:
            return True
        self.stats.gradient_norm = math.sqrt(squares) if squares >= 0 else math.nan
        if self.skip_nonfinite and not math.isfinite(squares):
            return False
        self.stats.clipped += self.clip is not None and self.stats.gradient_norm > self.clip
        return True

    def _conclude(self, members: list[Members], done: list[dict[str, Any]]) -> None:
        measured = Measured()
        longest = -1
        for batch, values in zip(members, done, strict=True):
            batch.write_back()
            batch.advance()
            if batch.steps > longest:
                longest = batch.steps
                shared = {f"{batch.rule.name}.{name}": float(values[name]) for name in values if name not in MEASURES}
                self._shared.update(shared)
            if self.measure:
                self._measure(measured, batch, values)
        if self.measure:
            measured.into(self.stats)
        self.stats.steps += 1
        torch.autograd.graph.increment_version([p for batch in members for p in batch.parameters])

    def _measure(self, measured: Measured, members: Members, values: dict[str, Any]) -> None:
        blocks = members.kind.form.blocks
        gradient, update, weight, unchanged = (values[name].reshape(-1, blocks).sum(1) for name in MEASURES)
        measured.gradient += float(gradient.sum())
        measured.update += float(update.sum())
        measured.unchanged += float(unchanged.sum())
        measured.elements += float(members.batch.rows.elements)
        ratios = (update / weight).sqrt().tolist()
        measured.ratios.update(zip((self.name_of(p) for p in members.parameters), ratios, strict=True))

    def name_of(self, parameter: Tensor) -> str:
        """Return the name under which a parameter's state is saved: its own, or its place if it was given without."""
        if not hasattr(self, "_names") or len(self._names) != sum(len(g["params"]) for g in self.param_groups):
            self._names = checkpoint.names(self.param_groups)
        return self._names[parameter]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the weights to evaluate at in place for the length of a block: the running mean, or a rule's own average.

        Without ema and for rules without one, the weights are left as they are.
        """
        before = {}
        for group in self.param_groups:
            rule = self._rules[group["rule"]]
            for p in group["params"]:
                average = self._average(rule, group, p)
                if average is not None:
                    before[p] = p.detach().clone()
                    p.data.copy_(average)
        self._averaged = True
        try:
            yield
        finally:
            self._averaged = False
            for p, value in before.items():
                p.data.copy_(value)

    def _average(self, rule: Rule, group: dict[str, Any], p: Tensor) -> Tensor | None:
        state = self.state.get(p, {})
        if self.ema is not None and "ema" in state:
            return state["ema"]
        if rule.average is None or not state:
            return None
        states = [state.get(name, self._shared.get(f"{rule.name}.{name}", 0.0)) for name in rule.states]
        return rule.average(p.detach().to(torch.float64), *states, **hyper(rule, group))

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Return everything a run of this optimizer consists of, keyed by parameter name; plain data and tensors only."""
        return checkpoint.save(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        """Take up a saved state. Raises ValueError, changing nothing, if names or shapes differ."""
        checkpoint.load(self, state_dict)

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_members", "_names")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._members = {}


def _rule(rule: Rule | str | None) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str):
        check_names([rule], RULES, "steepest.rules")
        return RULES[rule]
    raise TypeError(f"Optimizer needs a rule, such as rule='adamw', and got {rule!r}")


def _whole(options: dict[str, Any]) -> tuple[float | None, bool, float | None]:
    """Take out the options that concern all parameters at once."""
    clip, skip, ema = options.pop("clip", None), options.pop("skip_nonfinite", False), options.pop("ema", None)
    if clip is not None and not (isinstance(clip, float | int) and clip > 0):
        raise ValueError(f"clip={clip!r} must be a positive bound of the gradient norm, or None")
    if ema is not None and not (isinstance(ema, float) and 0 < ema < 1):
        raise ValueError(f"ema={ema!r} must be a decay between 0 and 1, such as 0.999, or None")
    return clip, bool(skip), ema


def _parameters(params: Any) -> Any:
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params must be parameters, such as model.parameters(), and got {type(params).__name__}")
    params = list(params)
    if not params:
        raise ValueError("the optimizer was given no parameters; pass model.parameters() of a model that has some")
    return params


def _scheduled(schedule: Any, step: int) -> float:
    try:
        return float(schedule(step))
    except TypeError:
        raise TypeError(
            f"lr={schedule!r} does not know the length of the run: write lr=schedule.over(steps)"
        ) from None


def _state_dtype(name: str, kind: Any, group: dict[str, Any]) -> torch.dtype:
    if name == "compensation":
        return kind.form.dtype
    return (group["state_dtype"] if name != "ema" else None) or kind.form.computed_in
