"""A rule and the options around it as one graph: clipping, cautious mask, rounding, running mean, measurements."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from steepest.formula import (
    FormulaError,
    Symbol,
    Tape,
    everywhere,
    maximum,
    mean,
    minimum,
    sqrt,
    square_total,
    total,
    where,
)
from steepest.formula.recorded import Recipe, Record, is_pure
from steepest.formula.symbol import ELEMENT, MATRIX, SCALAR, SHARED
from steepest.kernels.plan import Program, plan
from steepest.rule import Rule

GRADIENT = "gradient"  # label of the squared gradient norm over all tensors of the optimizer
NORM = "gradient norm"  # that norm squared, as a result of its own
KINDS = 8  # so many kinds of steps are remembered: t == 1, others, before and after a warm-up
MEASURES = ("squared gradient", "squared update", "squared weight", "unchanged")


class Edits(NamedTuple):
    """What is done around a rule.

    clip: bound of the global gradient norm; infinity where the norm is only needed to skip a step that is not finite.
    ema: decay of the running mean of weights. low: the parameter has less than 24 bits, so that rounding matters.
    """

    clip: float | None = None
    ema: float | None = None
    maximize: bool = False
    cautious: bool = False
    rounding: str = "nearest"
    low: bool = False
    measure: bool = False


class Traced(NamedTuple):
    """A step as it was written down.

    constants: the numbers of this step. stored: name and shape of the states that each parameter has for itself.
    """

    program: Program
    stored: dict[str, str]
    constants: Sequence[float]


def trace(rule: Rule, edits: Edits, matrix: tuple[int, int] | None, t: int, hyper: dict[str, Any]) -> Traced:
    """Write one step down: what the rule does, and around it what the options say."""
    return _looked_up(*_written(rule, edits, matrix, t, hyper))


def _written(
    rule: Rule, edits: Edits, matrix: tuple[int, int] | None, t: Any, hyper: dict[str, Any]
) -> tuple[Tape, dict[str, Symbol]]:
    """Write a step down, edits in the order of this function; return the tape and the new values."""
    tape = Tape(matrix)
    p, raw = tape.input("p"), tape.input("g")
    states = {name: tape.input(name, shape) for name, shape in rule.states.items()}
    outputs: dict[str, Symbol] = {}
    g = raw
    if edits.clip == math.inf:
        outputs[NORM] = everywhere(square_total(g), GRADIENT)
    elif edits.clip is not None:
        g = _clipped(g, edits.clip)
    if edits.maximize:
        g = -g
    new, *values = rule.trace_with(tape, p, g, *states.values(), t=t, **hyper)
    outputs |= dict(zip(states, values, strict=True))
    if edits.cautious:
        new = _cautious(p, g, new)
    new = _rounded(tape, p, new, edits, outputs)
    outputs["p"] = new
    if edits.ema is not None:
        average = p if t == 1 else tape.input("ema")
        outputs["ema"] = edits.ema * average + (1 - edits.ema) * new
    if edits.measure:
        stored = tape.add("nearest", ELEMENT, new.index)
        measures = (square_total(raw), square_total(stored - p), square_total(p), total(stored == p))
        outputs |= dict(zip(MEASURES, measures, strict=True))
    return tape, outputs


_programs: dict[tuple, tuple[Program, dict[str, str]]] = {}  # one for each graph in the process


def _looked_up(tape: Tape, outputs: dict[str, Symbol]) -> Traced:
    """Return the program that was made of what is written on a tape; make it if there is none."""
    outcome = tuple((name, symbol.index) for name, symbol in outputs.items())
    key = (tuple(tape.nodes), outcome, tape.matrix is None)
    if key not in _programs:
        _require_sides(tape)
        program = plan(tape, outputs)
        others = (*MEASURES, NORM, "seed")
        stored = {n: shape for n, shape in program.states.items() if shape != SHARED and n not in others}
        _programs[key] = (program, stored)
    return Traced(*_programs[key], tape.constants)


class Traces:
    """The steps of one batch, written down.

    To run a formula takes a tenth of a millisecond, and from one step to the next only t and lr change. So its scalar
    arithmetic is recorded, and done again on the numbers of the step (`formula.recorded`). Where that is not to be had
    the formula runs at every step.
    """

    def __init__(self, rule: Rule, matrix: tuple[int, int] | None) -> None:
        self.rule, self.matrix = rule, matrix
        self._recipes: dict[Any, list[tuple[Recipe, Program, dict[str, str]]]] = {}
        self._records = is_pure(rule.formula)

    def at(self, edits: Edits, t: int, hyper: dict[str, Any]) -> Traced:
        """Write a step down."""
        if not self._records:
            return trace(self.rule, edits, self.matrix, t, hyper)
        lr = hyper["lr"]
        key = (edits, *({**hyper, "lr": None}.values()))
        try:
            recipes = self._recipes.get(key)
        except TypeError:  # a list among the numbers
            return trace(self.rule, edits, self.matrix, t, hyper)
        for recipe, program, stored in recipes or ():
            constants = recipe(t, lr)
            if constants is not None:
                return Traced(program, stored, constants)
        traced = trace(self.rule, edits, self.matrix, t, hyper)
        if recipes is None:  # what changes at every step is not worth recording
            if len(self._recipes) == KINDS:
                self._recipes.clear()
            self._recipes[key] = []
        elif len(recipes) < KINDS:
            self._record(edits, t, hyper, traced, recipes)
        return traced

    def _record(self, edits: Edits, t: int, hyper: dict[str, Any], traced: Traced, recipes: list) -> None:
        """Keep a recipe, if one gives what the formula gave."""
        record = Record(t, hyper["lr"])
        step, rate = record.inputs
        try:
            tape, outputs = _written(self.rule, edits, self.matrix, step, {**hyper, "lr": rate})
            again, recipe = _looked_up(tape, outputs), Recipe(record, tape.constants)
        except Exception:  # such a formula takes no numbers but Python's own
            self._records = False
            return
        same = again.program is traced.program and recipe(t, hyper["lr"]) == list(traced.constants)
        self._records = same and not record.escaped
        if self._records:
            recipes.append((recipe, traced.program, traced.stored))


def _require_sides(tape: Tape) -> None:
    looks = [node[0] for node in tape.nodes if node[0] in MATRIX]
    if looks and tape.matrix is None:
        raise FormulaError(f"a rule with {looks[0]} looks at matrices, so declare it with @rule(matrix=True)")


def default_states(rule: Rule) -> dict[str, str]:
    """Return name and shape of the states that a rule keeps for each parameter, with its default hyper-parameters."""
    first, second = (trace(rule, Edits(), (4, 3) if rule.matrix else None, t, dict(rule.options)) for t in (1, 2))
    return first.stored | second.stored


def _clipped(g: Symbol, bound: float) -> Symbol:
    """Scale the gradient so that its norm over all tensors is at most the bound, as torch.nn.utils.clip_grad_norm_."""
    return g * minimum(1.0, bound / (sqrt(everywhere(square_total(g), GRADIENT)) + 1e-6))


def _cautious(p: Symbol, g: Symbol, new: Symbol) -> Symbol:
    """Move only where the update agrees with the gradient, and further there; Liang et al. 2024, arXiv:2411.16085.

    Departs from the paper: the whole displacement is masked, weight decay included.
    """
    update = new - p
    agrees = where(update * g < 0, 1.0, 0.0)
    return p + update * (agrees / maximum(mean(agrees), 1e-3))


def _rounded(tape: Tape, p: Symbol, new: Symbol, edits: Edits, outputs: dict[str, Symbol]) -> Symbol:
    """Round the new parameter as asked. Storing rounds to nearest, so that takes no edit."""
    if not edits.low or edits.rounding == "nearest":
        return new
    if edits.rounding == "stochastic":
        seed = tape.input("seed", SCALAR)
        return tape.add("stochastic", ELEMENT, new.index, seed.index)
    lost = tape.input("compensation")
    step = (new - p) + lost
    rounded = p + step
    stored = tape.add("nearest", ELEMENT, rounded.index)
    outputs["compensation"] = step - (stored - p)
    return stored
