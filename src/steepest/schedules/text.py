"""Schedules from text, as a plan or a command line holds them."""

import ast
from typing import Any

from steepest.schedules import compose, cycles, schedule, shapes
from steepest.schedules.schedule import Schedule
from steepest.spelling import meant

NAMES = {
    make.__name__: make
    for make in (
        schedule.constant, schedule.product, shapes.warmup, shapes.linear, shapes.cosine, shapes.polynomial,
        shapes.one_minus_sqrt, shapes.inverse_sqrt, cycles.one_cycle, cycles.cyclic, cycles.restarts, compose.sequence,
        compose.wsd,
    )
}  # fmt: skip


def parse(text: str) -> Schedule:
    """Read what `repr` of a schedule prints, as "0.0003 * warmup(0.05) * cosine()"; nothing is executed.

    Raises ValueError for a name that is no schedule and for anything else than names, numbers, calls and products.
    """
    try:
        result = _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"{text!r} is no schedule, as 'warmup(0.05) * cosine()' is one: {error}") from error
    if not isinstance(result, Schedule):
        raise ValueError(f"{text!r} is no schedule, as 'warmup(0.05) * cosine()' is one.")
    return result


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _read(left) * _read(right)
        case ast.Call(func=ast.Name(id=name), args=positional, keywords=named):
            settings = {str(keyword.arg): _read(keyword.value) for keyword in named}
            return _named(name)(*(_argument(value) for value in positional), **settings)
    raise ValueError(f"{ast.unparse(node)!r} has no place in a schedule: names, numbers, calls and * have.")


def _argument(node: ast.expr) -> Any:
    return tuple(_read(part) for part in node.elts) if isinstance(node, ast.Tuple) else _read(node)


def _named(name: str) -> Any:
    if name in NAMES:
        return NAMES[name]
    raise ValueError(f"There is no schedule {name!r}; {meant(name, NAMES)}")
