"""A torch.optim.Optimizer for any update rule."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from steepest.formula.symbol import SHARED
from steepest.kernels.batch import Run, Running, Sums, shared, together
from steepest.kernels.eager import EagerRun
from steepest.kernels.gpu import GpuRun
from steepest.kernels.mixed import MixedRun
from steepest.optim import checkpoint
from steepest.optim.checks import (
    check_given,
    check_names,
    check_params,
    check_rule,
    check_values,
    check_whole,
    plain,
)
from steepest.optim.cut import Cut, Order, Ready
from steepest.optim.graph import GRADIENT, MEASURES, NORM, Edits, Traced, trace
from steepest.optim.members import Members, States
from steepest.optim.observed import is_watched, observed
from steepest.optim.settings import GROUP, OPTIONS, PATHS, WHOLE, front, hyper
from steepest.optim.stats import Measured, Stats
from steepest.rule import Rule
from steepest.rules import find


class Optimizer(torch.optim.Optimizer):
    """Steps parameters by an update rule.

    params: tensors, (name, tensor) pairs, or groups as `steepest.groups` makes them; a group may name its own "rule"
    and override any option. rule: a rule or the name of one. The rule's hyper-parameters follow by keyword; lr is a
    number or a schedule. Options of every rule:

    clip: bound of the Euclidean norm of all gradients together, applied inside the step; `stats.gradient_norm` is the
        norm before.
    skip_nonfinite: leave everything as it is when a gradient is not finite, and count it in `stats.skipped`.
    ema: decay of a running mean of the weights, kept in the state and put in place by `with optimizer.averaged():`.
    cautious: move only where the update agrees with the gradient (arXiv:2411.16085).
    state_dtype: dtype of the states; float32 by default, also for bfloat16 parameters (float64 for float64).
    rounding: for bfloat16 parameters "nearest", "stochastic" (keeps the mean of many small steps) or "kahan" (keeps
        what rounding lost in one more tensor; for float16 as well).
    maximize: ascend instead.

    measure: set it to True to have the next steps fill all of `stats`.
    Raises TypeError for an unknown option and ValueError for a value out of range.
    """

    def __init__(self, params: Any, rule: Rule | str, **options: Any) -> None:
        self.rule = find(rule)
        self._rules = {self.rule.name: self.rule}
        check_names(options, [*front(self.rule), *OPTIONS, *WHOLE, *PATHS], type(self).__name__)
        self.clip, self.skip_nonfinite, self.ema = check_whole(options)
        self.stats = Stats()
        self.measure = False
        self._cut: Cut | None = None
        self._shared: dict[str, Any] = {}  # states that a rule has once for all parameters, as "rule.state"
        self._averaged = False
        super().__init__(check_given(params), {**front(self.rule), **OPTIONS, **options})
        self.state = self._states = States(dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own. Keys: "params", "rule", and any option of that rule."""
        rule = find(param_group.get("rule", self.rule))
        check_rule(rule)
        if self._rules.get(rule.name, rule) is not rule:
            raise ValueError(f"two rules of this optimizer are called {rule.name}: give one of them another name")
        known = {**front(rule), **OPTIONS}
        check_names([key for key in param_group if key not in GROUP], [*known, *PATHS], f"a group of {rule.name}")
        chosen = {name: self.defaults[name] for name in known if rule is self.rule or name in ("lr", *OPTIONS)}
        group = {name: plain(value) for name, value in {**known, **chosen, **param_group}.items()} | {"rule": rule.name}
        if callable(group["lr"]):
            group["schedule"], group["lr"] = group["lr"], 0.0  # group["lr"] is always the number in force
            self._set_rate(group)
        check_values(rule, group)
        orthogonal = False
        for t in (1, 2):  # a rule that cannot be traced, or refuses its hyper-parameters, says so here
            program = trace(rule, Edits(), (2, 2) if rule.matrix else None, t, hyper(rule, group)).program
            orthogonal |= any(node[0] == "orthogonalize" for node in program.nodes)
        group["params"] = check_params(group, rule, orthogonal)
        super().add_param_group(group)
        self._rules[rule.name] = rule
        for name in [name for name in group if name not in known and name not in GROUP]:
            del group[name]  # torch fills in all defaults, also those of the other groups' rule

    def bind(self, steps: int) -> None:
        """Tell schedules that do not know it yet how many steps the run has."""
        for group in self.param_groups:
            if hasattr(group.get("schedule"), "over"):
                group["schedule"] = group["schedule"].over(steps)
                self._set_rate(group)

    def _set_rate(self, group: dict[str, Any]) -> None:
        """Put the rate of the coming step in place, if a schedule knows it."""
        schedule = group.get("schedule")
        if schedule is not None and not hasattr(schedule, "over"):
            group["lr"] = float(schedule(self.stats.steps + self.stats.skipped))

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]  as torch.optim does: compile leaves the step alone
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient. closure: computes the loss anew; its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._averaged:
            raise RuntimeError(
                "step() inside `with averaged()`: the weights are the running mean; leave the block first"
            )
        with self._without_autocast() if torch._C._is_any_autocast_enabled() else contextlib.nullcontext():
            self._step()
        return loss

    profile_hook_step = staticmethod(observed)  # type: ignore[assignment]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or set them to zero."""
        if not set_to_none or is_watched():
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def _without_autocast(self) -> contextlib.ExitStack:
        """Return a block in which the rules compute as they are written, whatever the model does."""
        stack = contextlib.ExitStack()
        for device in {p.device.type for group in self.param_groups for p in group["params"][:1]}:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        return stack

    def _step(self) -> None:
        if self.state is not self._states:  # somebody put another dictionary in its place
            self.state = self._states = States(dict, self.state)
        for group in self.param_groups:
            self._set_rate(group)
        try:
            ready = self._ready()
        except (TypeError, ValueError, ArithmeticError):
            for group in self.param_groups:  # if somebody wrote nonsense into a group, that is the sentence to say
                check_values(self.rule_of(group), group)
            raise
        self.stats.forget()
        done = together(
            [self._run(each) for each in ready], self._proceed if self.clip or self.skip_nonfinite else None
        )
        if done is None:
            self.stats.skipped += 1
        else:
            self._conclude([each.members for each in ready], done)
            self.stats.steps += 1

    def _ready(self) -> list[Ready]:
        """Return the batches with what they take, cut anew when a gradient came or went."""
        orders = [self._order(group) for group in self.param_groups]
        cut = self._cut
        ready = cut.ready(orders) if cut is not None and cut.fits(self._states, orders) else None
        if ready is None:
            self._cut = cut = Cut(self._states, orders)
            ready = cut.ready(orders)
        assert ready is not None
        return ready

    def _order(self, group: dict[str, Any]) -> Order:
        if hasattr(group.get("schedule"), "over"):
            raise ValueError(
                f"lr={group['schedule']!r} does not know the length of the run: write lr=schedule.over(steps)"
            )
        rule = self._rules[group["rule"]]
        clip = self.clip if self.clip is not None else math.inf if self.skip_nonfinite else None
        edits = Edits(clip, self.ema, group["maximize"], group["cautious"], group["rounding"], False, self.measure)
        return Order(group, rule, edits, hyper(rule, group))

    def _run(self, each: Ready) -> Running:
        """Make a step ready to run."""
        members, device = each.members, each.members.kind.form.device
        given = {**self._shared_states(members.rule, device), **self._seeds(members, each.traced)}
        on_cpu = MixedRun if members.batch.shapes else Run
        run = EagerRun if not members.kind.kernel else GpuRun if device.startswith("cuda") else on_cpu
        return run(members.batch, each.graph, each.gradients, given)

    def _shared_states(self, rule: Rule, device: str) -> dict[str, Any]:
        names = [name for name, shape in rule.states.items() if shape == SHARED]
        if not names:
            return {}
        known = {name: self._shared.get(f"{rule.name}.{name}", 0.0) for name in names}
        return known if device.startswith("cuda") else {name: shared(value) for name, value in known.items()}

    def _seeds(self, members: Members, traced: Traced) -> dict[str, Any]:
        """Give each tensor its own noise at each step, the same in every run: for stochastic rounding."""
        if "seed" not in traced.program.states:
            return {}
        places = {p: place for place, p in enumerate(p for group in self.param_groups for p in group["params"])}
        place = torch.tensor([places[p] for p in members.parameters], dtype=torch.float64, device="cpu")
        blocks = members.kind.form.blocks
        unit = place.repeat_interleave(blocks) * blocks + torch.arange(len(place) * blocks, device="cpu") % blocks
        return {"seed": (unit * 7919 + (members.steps + 1) * 104729) % (1 << 24)}  # two primes; a seed has 24 bits

    def _proceed(self, sums: Sums) -> bool:
        """Note the gradient norm as soon as it is known; say whether the step may be taken."""
        squares = sums.get((GRADIENT, 0))
        if squares is None:
            return True
        finite = not self.skip_nonfinite or math.isfinite(squares)  # on a GPU, the one look that a step waits for
        self.stats.note(squares, self.clip if finite else None)
        return finite

    def _conclude(self, batches: list[Members], done: list[dict[str, Any]]) -> None:
        """Count the step and take what it computed besides parameters and states."""
        measured = Measured()
        oldest: dict[str, int] = {}  # where batches differ on what a rule has once, the one that began first decides
        for members, values in zip(batches, done, strict=True):
            members.write_back()
            members.advance()
            rule = members.rule.name
            if members.steps > oldest.get(rule, 0):
                oldest[rule] = members.steps
                self._shared.update({f"{rule}.{n}": values[n] for n in values if n not in MEASURES and n != NORM})
            if self.measure:
                measured.add(members, values, self.names())
        if self.measure:
            measured.into(self.stats)
        torch.autograd.graph.increment_version([p for members in batches for p in members.parameters])

    def rule_of(self, group: dict[str, Any]) -> Rule:
        """Return the rule that steps a group."""
        return self._rules[group["rule"]]

    def names(self) -> dict[Tensor, str]:
        """Return the name under which each parameter's state is saved: its own, or its place among all."""
        return checkpoint.names(self.param_groups)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the weights to evaluate at in place for the length of a block: the running mean, or a rule's own average.

        Without ema, and for rules without an average, the weights are left as they are.
        """
        if self._averaged:
            raise RuntimeError("`with averaged()` inside `with averaged()`: the weights are the average already")
        pairs = [(p, self._average(group, p)) for group in self.param_groups for p in group["params"]]
        swapped = [(p, average, p.detach().clone()) for p, average in pairs if average is not None]
        self._averaged = bool(swapped)
        try:
            with torch.no_grad():
                for p, average, _ in swapped:
                    p.copy_(average)
            yield
        finally:
            self._averaged = False
            with torch.no_grad():
                for p, _, value in swapped:
                    p.copy_(value)

    def _average(self, group: dict[str, Any], p: Tensor) -> Tensor | None:
        rule, state = self.rule_of(group), self.state.get(p, {})
        if self.ema is not None and "ema" in state:
            return state["ema"]
        if rule.average is None or not state:
            return None
        states = [state.get(name, self._shared.get(f"{rule.name}.{name}", 0.0)) for name in rule.states]
        point = p.detach().to(torch.complex128 if p.is_complex() else torch.float64)
        return rule.average(point, *states, **hyper(rule, group))

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Return all that the optimizer needs to go on, keyed by parameter name: plain data and tensors."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        saved = checkpoint.save(self)
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, saved)
            saved = saved if changed is None else changed
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        """Take up a saved state. Raises ValueError, changing nothing, if names, shapes, dtypes or rules differ."""
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        checkpoint.load(self, state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cut": None}
