"""Numbers that remember what they were computed from, so that scalars of a formula are worked out anew without it.

A formula is run once with such numbers for what changes from step to step. What it computes is written down, and so are
the comparisons it made: as long as they come out as they did, doing the same operations on the numbers of another step
gives what the formula would give, to the bit.
"""

import builtins
import math
import operator
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType
from typing import Any

_ALLOWED = frozenset({
    "abs", "all", "any", "bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min", "pow",
    "range", "reversed", "round", "sorted", "sum", "tuple", "zip", "ValueError", "TypeError",
})  # fmt: skip


class Record:
    """What was done to numbers, in order. values: the inputs, and all that came out.

    constants: by place. operations: place of a result -> (function, place, place). checks: (function, place, place) and
    how the comparison came out. escaped: something looked at a number in another way; what became of it is not known.
    """

    def __init__(self, *inputs: float) -> None:
        self.values: list[Any] = list(inputs)
        self.inputs = [Known(self, place) for place in range(len(inputs))]
        self.constants: dict[int, float] = {}
        self.operations: dict[int, tuple[Callable[..., Any], int, int]] = {}
        self.checks: list[tuple[Callable[..., Any], int, int, bool]] = []
        self.escaped = False

    def place(self, value: Any) -> int:
        """Return where a number is kept."""
        if type(value) is Known:
            return value.place
        self.constants[len(self.values)] = value
        return self._keep(value)

    def _keep(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def compute(self, function: Callable[..., Any], a: Any, b: Any) -> "Known":
        """Do an operation, and write it down."""
        first, second = self.place(a), self.place(b)
        place = self._keep(function(self.values[first], self.values[second]))
        self.operations[place] = (function, first, second)
        return Known(self, place)

    def compare(self, function: Callable[..., Any], a: Any, b: Any) -> bool:
        """Make a comparison, and write down how it comes out."""
        first, second = self.place(a), self.place(b)
        result = bool(function(self.values[first], self.values[second]))
        self.checks.append((function, first, second, result))
        return result


class Recipe:
    """How to get from the inputs of a recording to some of its numbers."""

    def __init__(self, record: Record, results: Sequence[Any]) -> None:
        places = [record.place(result) for result in results]
        order = [*range(len(record.inputs)), *record.constants, *record.operations]
        at = {place: position for position, place in enumerate(order)}
        self._fixed = list(record.constants.values())
        self._operations = [(function, at[a], at[b]) for function, a, b in record.operations.values()]
        self._checks = [(function, at[a], at[b], result) for function, a, b, result in record.checks]
        self._places = [at[place] for place in places]

    def __call__(self, *inputs: float) -> list[Any] | None:
        """Return the numbers for other inputs; None where a comparison comes out otherwise, or something fails."""
        values: list[Any] = [*inputs, *self._fixed]
        try:
            for function, a, b in self._operations:
                values.append(function(values[a], values[b]))
            for function, a, b, result in self._checks:
                if bool(function(values[a], values[b])) is not result:
                    return None
        except (ArithmeticError, ValueError, TypeError):
            return None
        return [values[place] for place in self._places]


class Known:
    """A number of a recording."""

    __slots__ = ("place", "record")
    __array_ufunc__ = None  # NumPy's numbers leave arithmetic with it to it

    def __init__(self, record: Record, place: int) -> None:
        self.record, self.place = record, place

    @property
    def value(self) -> Any:
        """The number itself, for who does not compute with it."""
        return self.record.values[self.place]

    def __bool__(self) -> bool:
        return self.record.compare(operator.ne, self, 0)

    def __hash__(self) -> int:
        return hash(_escaped(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_escaped(self), name)


def _escaped(number: Known) -> Any:
    number.record.escaped = True
    return number.value


def _arithmetic(function: Callable[..., Any], swapped: bool) -> Callable[[Known, Any], Any]:
    def method(self: Known, other: Any) -> Any:
        if not isinstance(other, _NUMBER):
            return NotImplemented
        return self.record.compute(function, *((other, self) if swapped else (self, other)))

    return method


def _comparison(function: Callable[..., Any]) -> Callable[[Known, Any], Any]:
    def method(self: Known, other: Any) -> Any:
        return self.record.compare(function, self, other) if isinstance(other, _NUMBER) else NotImplemented

    return method


def _lookup(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: getattr(_escaped(self), name)(*arguments)


_NUMBER = float | int | Known
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Known, f"__{_name}__", _arithmetic(getattr(operator, _name), swapped=False))
    setattr(Known, f"__r{_name}__", _arithmetic(getattr(operator, _name), swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Known, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name in (
    "float", "int", "index", "complex", "round", "trunc", "floor", "ceil", "divmod", "rdivmod", "format", "str", "repr",
):  # fmt: skip
    setattr(Known, f"__{_name}__", _lookup(f"__{_name}__"))
Known.__neg__ = lambda self: self.record.compute(_negative, self, self)  # type: ignore[attr-defined]
Known.__pos__ = lambda self: self  # type: ignore[attr-defined]
Known.__abs__ = lambda self: self.record.compute(_absolute, self, self)  # type: ignore[attr-defined]


def _negative(a: Any, _: Any) -> Any:
    return -a


def _absolute(a: Any, _: Any) -> Any:
    return abs(a)


def recorded(function: Callable[..., Any], *numbers: Any) -> Any:
    """Apply a function of one or two numbers, one of which is of a recording."""
    record = next(number.record for number in numbers if type(number) is Known)
    if len(numbers) == 1:
        return record.compute(lambda a, _: function(a), numbers[0], numbers[0])
    return record.compute(function, *numbers)


def is_pure(function: Callable[..., Any]) -> bool:
    """Whether a formula depends on its arguments alone, as far as the names tell that it uses. Ours do."""
    if function.__module__.startswith("steepest.rules."):
        return True
    if function.__closure__:  # type: ignore[attr-defined]
        return False
    names = _names(function.__code__)  # type: ignore[attr-defined]
    return all(_harmless(name, function.__globals__) for name in names)  # type: ignore[attr-defined]


def _names(code: CodeType) -> set[str]:
    """Return what a function and those inside of it look up by name: globals, and attributes, which are no globals."""
    inner = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inner)


def _harmless(name: str, known: dict[str, Any]) -> bool:
    if name not in known:
        return name in _ALLOWED or not hasattr(builtins, name)
    value = known[name]
    if isinstance(value, ModuleType):
        return value is math or value.__name__ == "steepest"
    return callable(value) and str(getattr(value, "__module__", "")).startswith("steepest.formula")
