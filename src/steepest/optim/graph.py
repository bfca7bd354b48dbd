"""A rule and the options around it as one graph: clipping, cautious mask, rounding, running mean, measurements."""

from dataclasses import dataclass
from typing import Any, ClassVar

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
from steepest.formula.symbol import ELEMENT, MATRIX, SCALAR, SHARED
from steepest.kernels.plan import Program, plan
from steepest.rule import Rule

GRADIENT = "gradient"  # label of the squared gradient norm over all tensors of the optimizer
MEASURES = ("squared gradient", "squared update", "squared weight", "unchanged")


@dataclass(frozen=True)
class Edits:
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


def trace(rule: Rule, edits: Edits, matrix: tuple[int, int] | None, t: int, hyper: dict[str, Any]) -> "Traced":
    """Write one step down: what the rule does, and around it what the options say, in the order of this function."""
    tape = Tape(matrix)
    p, raw = tape.input("p"), tape.input("g")
    states = {name: tape.input(name, shape) for name, shape in rule.states.items()}
    g = raw
    if edits.clip is not None:
        g = _clipped(g, edits.clip)
    if edits.maximize:
        g = -g
    new, *values = rule.trace_with(tape, p, g, *states.values(), t=t, **hyper)
    outputs = dict(zip(states, values, strict=True))
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
    return Traced(tape, outputs)


class Traced:
    """A tape with its results; the program made of it is looked up by what was written down.

    stored: name and shape of the states that each parameter has for itself.
    """

    _programs: ClassVar[dict[tuple, tuple[Program, dict[str, str]]]] = {}  # one for each graph in the process

    def __init__(self, tape: Tape, outputs: dict[str, Symbol]) -> None:
        self.constants = tape.constants
        key = (tuple(tape.nodes), tuple((name, symbol.index) for name, symbol in outputs.items()), tape.matrix)
        if key not in self._programs:
            _require_sides(tape)
            program = plan(tape, outputs)
            others = (*MEASURES, "seed")
            stored = {n: shape for n, shape in program.states.items() if shape != SHARED and n not in others}
            self._programs[key] = (program, stored)
        self.program, self.stored = self._programs[key]


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
