"""@rule: an update rule is one function, and its signature is the declaration of all there is to know about it."""

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steepest.formula import FormulaError, Symbol, Tape, sides
from steepest.formula.symbol import ELEMENT, SCALAR, SHARED, WEAK, lift, number

_SIDED = ("m1", "1n", "mm", "nn")
SHAPES = {"rows": "m1", "columns": "1n", "left": "mm", "right": "nn", "scalar": SCALAR, "shared": SHARED}


@dataclass(frozen=True, eq=False)
class Rule:
    """An update rule: (p, g, *state; t, hyper-parameters) -> (p, *state).

    Called with NumPy arrays it is the reference implementation. State is zero before the first step (t = 1); a rule
    that starts otherwise says so with `if t == 1`. A state that comes back untouched is never allocated.

    states: name of each state -> its shape ("mn" as the parameter; see `steepest.formula`).
    options: name of each hyper-parameter -> its default.
    paper: where the formula is published. same_as: a well-known implementation that gives the same numbers.
    worked: (gradients, parameters): from p = 1 with default settings these gradients give these parameters.
    matrix: the rule looks at p as a matrix of known sides, and is traced once for each shape.
    average: for rules whose gradient is not taken where the model should be evaluated: the point to evaluate at, as
        a function of (p, *state) and hyper-parameters.
    breaks: laws of `steepest.testing` that the rule breaks by what it is -> why.
    """

    formula: Callable[..., Any]
    paper: str = ""
    same_as: str = ""
    worked: tuple[Sequence[float], Sequence[float]] | None = None
    matrix: bool = False
    average: Callable[..., Any] | None = None
    breaks: Mapping[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(init=False)
    options: dict[str, Any] = field(init=False)
    counts_steps: bool = field(init=False)

    def __post_init__(self) -> None:
        states, options, counts_steps = _declared(self.formula)
        if not self.matrix and (sided := [name for name, shape in states.items() if shape in _SIDED]):
            raise FormulaError(
                f"rule {self.name}: the state {sided[0]} has sides of a matrix, so declare it with @rule(matrix=True)"
            )
        object.__setattr__(self, "states", states)
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "counts_steps", counts_steps)
        object.__setattr__(self, "__module__", self.formula.__module__)

    def __reduce__(self) -> str:
        return self.formula.__qualname__  # a rule is code: pickled by name, and its own copy

    @property
    def name(self) -> str:
        """The name of the function, which is also that of its file."""
        return self.formula.__name__

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.formula) or self.name).partition("\n")[0]

    def __repr__(self) -> str:
        return f"<rule {self.name}({', '.join(('p', 'g', *self.states))})>"

    def __call__(self, p: Any, g: Any, *state: Any, t: int, **hyper: Any) -> tuple[Any, ...]:
        """Compute one step. t counts from 1."""
        if self.counts_steps:
            hyper["t"] = t
        try:
            result = self.formula(p, g, *state, **hyper)
        except FormulaError as error:
            raise FormulaError(f"rule {self.name}{self._line(error)}: {error}") from error
        if isinstance(result, list):
            raise FormulaError(f"rule {self.name} returned a list, and must return {self._returns()}")
        result = result if isinstance(result, tuple) else (result,)
        if any(value is None for value in result):
            raise FormulaError(f"rule {self.name} returned None, and must return {self._returns()}")
        if len(result) != 1 + len(self.states):
            count = f"{len(result)} value{'s' * (len(result) != 1)}"
            raise FormulaError(f"rule {self.name} returned {count}, and must return {self._returns()}")
        return result

    def _returns(self) -> str:
        return f"({', '.join(('p', *self.states))})" if self.states else "p"

    def zeros(self, p: np.ndarray) -> tuple[Any, ...]:
        """Return the state before the first step, for a parameter given as an array."""
        rows, columns = sides(p)
        side = {"m": rows, "n": columns, "1": 1}
        return tuple(
            0.0 if shape in (SCALAR, SHARED)
            else np.zeros_like(p) if shape == ELEMENT
            else np.zeros([side[letter] for letter in shape], p.dtype)
            for shape in self.states.values()
        )  # fmt: skip

    def walk(self, p: Any, gradients: Sequence[Any], **hyper: Any) -> Iterator[Any]:
        """Yield the parameter after each step, in the precision of p (float64 for a plain number)."""
        p = np.asarray(p, dtype=getattr(p, "dtype", np.float64))
        state = self.zeros(p)
        for t, gradient in enumerate(gradients, 1):
            results = self(p, np.asarray(gradient, p.dtype), *state, t=t, **hyper)
            p, *state = (r if isinstance(r, float) else np.asarray(r, p.dtype) for r in results)
            yield p

    def trace(self, tape: Tape, *, t: int, **hyper: Any) -> tuple[Symbol, ...]:
        """Write this step down on a tape, with inputs p, g and the states by name; return symbols of the results."""
        inputs = [tape.input("p"), tape.input("g"), *(tape.input(name, shape) for name, shape in self.states.items())]
        return self.trace_with(tape, *inputs, t=t, **hyper)

    def trace_with(self, tape: Tape, *inputs: Symbol, t: int, **hyper: Any) -> tuple[Symbol, ...]:
        """As `trace`, with the symbols of p, g and the states given: the place where options edit the graph."""
        results = self(*inputs, t=t, **hyper)
        shapes = (ELEMENT, *self.states.values())
        return tuple(self._fitted(tape, *pair) for pair in zip(results, shapes, ("p", *self.states), strict=True))

    def _fitted(self, tape: Tape, value: Any, shape: str, name: str) -> Symbol:
        try:
            symbol = number(lift(tape, value))
        except FormulaError as error:
            raise FormulaError(f"rule {self.name} returned for {name} no element: {error}") from None
        if symbol.letters == shape or WEAK.get(symbol.letters, 3) < WEAK.get(shape, 0):
            return symbol
        if shape == SHARED and symbol.letters == SCALAR:
            raise FormulaError(
                f"rule {self.name} returned for {name} one number for each tensor, and it is shared by all: "
                f"add them up with everywhere, or declare it as scalar"
            )
        if shape == ELEMENT and symbol.letters in WEAK:
            return tape.add("spread", ELEMENT, symbol.index)
        raise FormulaError(f"rule {self.name} returned for {name} a value of shape {symbol.letters!r}, not {shape!r}")

    def _line(self, error: FormulaError) -> str:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.name == self.formula.__name__ and frame.filename == self.formula.__code__.co_filename:
                if not frame.line:  # typed at a prompt, or made by exec
                    return f" (line {frame.lineno})"
                return f" ({frame.filename}:{frame.lineno}, `{frame.line}`)"
        return ""


def rule(formula: Callable[..., Any] | None = None, **fields: Any) -> Any:
    """Declare a function (p, g, *state, *, t, lr, ...) -> (p, *state) as an update rule.

    fields: paper, same_as, worked, matrix, average, breaks; see `Rule`.

    >>> @rule
    ... def plain(p, g, *, lr=0.1):
    ...     return p - lr * g
    >>> [float(p) for p in plain.walk(1.0, [0.5, 0.5])]
    [0.95, 0.9]
    """
    if formula is None:
        return lambda function: Rule(function, **fields)
    return Rule(formula, **fields)


def _declared(formula: Callable[..., Any]) -> tuple[dict[str, str], dict[str, Any], bool]:
    """Read states, hyper-parameters and whether it counts steps from the signature."""
    name = formula.__name__
    parameters = list(inspect.signature(formula).parameters.values())
    tensors = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    scalars = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if [p.name for p in tensors[:2]] != ["p", "g"] or len(tensors) + len(scalars) != len(parameters):
        raise FormulaError(
            f"rule {name} must be declared as {name}(p, g, <states>, *, t, lr=..., <hyper-parameters>): the parameter, "
            f"its gradient and the states by position, everything else by keyword"
        )
    for scalar in scalars:
        if scalar.default is scalar.empty and scalar.name != "t":
            raise FormulaError(f"rule {name}: the hyper-parameter {scalar.name} needs a default")
    if "lr" not in {s.name for s in scalars}:
        raise FormulaError(f"rule {name} has no learning rate: add the keyword lr=<default>")
    states = {state.name: _shape(name, state) for state in tensors[2:]}
    options = {scalar.name: scalar.default for scalar in scalars}
    return states, {name: options[name] for name in options if name != "t"}, "t" in options


def _shape(rule_name: str, state: inspect.Parameter) -> str:
    if state.annotation is state.empty:
        return ELEMENT
    word = state.annotation.strip("'\"") if isinstance(state.annotation, str) else None  # quoted twice under __future__
    if word not in SHAPES:
        known = ", ".join(f'"{shape}"' for shape in SHAPES)
        given = f"{state.name} is annotated {state.annotation!r}"
        raise FormulaError(f"rule {rule_name}: the state {given}; known: {known}")
    return SHAPES[word]


def class_name(name: str) -> str:
    """Return the name of the optimizer class of a rule."""
    return _SPELLED.get(name) or re.sub(r"(?:^|_)(\w)", lambda match: match[1].upper(), name)


_SPELLED = {
    "sgd": "SGD", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "asgd": "ASGD", "rmsprop": "RMSprop",
    "amsgrad": "AMSGrad", "adopt": "ADOPT", "ademamix": "AdEMAMix", "laprop": "LaProp", "adabelief": "AdaBelief",
    "stable_adamw": "StableAdamW", "lamb": "LAMB", "lars": "LARS", "novograd": "NovoGrad", "mars": "MARS",
    "schedule_free_sgd": "ScheduleFreeSGD", "schedule_free_adamw": "ScheduleFreeAdamW", "normuon": "NorMuon",
    "soap": "SOAP",
}  # fmt: skip
