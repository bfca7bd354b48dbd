"""Which functions of NumPy and torch mean the same in a formula, so that np.sqrt(g) and torch.sqrt(g) work.

Arithmetic goes to `binary` and not through the operators: those would ask an array on the left, which asks again.
"""

from functools import partial

from steepest.formula.functions import dot, exp, log, maximum, mean, minimum, norm, sign, sqrt, total, where
from steepest.formula.symbol import PLAIN, binary

_OPERATORS = {
    "add": ("add",), "sub": ("sub", "subtract"), "mul": ("mul", "multiply"),
    "div": ("div", "divide", "true_divide", "truediv"),
    "lt": ("lt", "less"), "le": ("le", "less_equal"), "eq": ("eq", "equal"), "ne": ("ne", "not_equal"),
}  # fmt: skip
_REFLECTED = {
    "add": ("radd",), "sub": ("rsub",), "mul": ("rmul",), "div": ("rdiv", "rtruediv"), "lt": ("gt", "greater"),
    "le": ("ge", "greater_equal"),
}  # fmt: skip

PLAIN.update({
    "sqrt": sqrt, "exp": exp, "log": log, "sign": sign, "abs": abs, "absolute": abs, "maximum": maximum,
    "minimum": minimum, "where": where, "square": lambda x: x * x, "negative": lambda x: -x, "neg": lambda x: -x,
    "sum": total, "mean": mean, "norm": norm, "dot": dot,
})  # fmt: skip
for _operation, _names in _OPERATORS.items():
    PLAIN.update(dict.fromkeys(_names, partial(binary, _operation)))
for _operation, _names in _REFLECTED.items():
    PLAIN.update(dict.fromkeys(_names, lambda a, b, *, operation=_operation: binary(operation, b, a)))
