"""Which functions of NumPy and torch mean the same in a formula, so that np.sqrt(g) and torch.sqrt(g) work."""

from steepest.formula.functions import dot, exp, log, maximum, mean, minimum, norm, sign, sqrt, total, where
from steepest.formula.symbol import PLAIN

PLAIN.update({
    "sqrt": sqrt, "exp": exp, "log": log, "sign": sign, "abs": abs, "absolute": abs, "maximum": maximum,
    "minimum": minimum, "where": where, "add": lambda a, b: a + b, "subtract": lambda a, b: a - b,
    "sub": lambda a, b: a - b, "rsub": lambda a, b: b - a, "multiply": lambda a, b: a * b, "mul": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "div": lambda a, b: a / b, "true_divide": lambda a, b: a / b, "square": lambda x: x * x,
    "negative": lambda x: -x, "neg": lambda x: -x, "greater": lambda a, b: a > b, "less": lambda a, b: a < b,
    "gt": lambda a, b: a > b, "lt": lambda a, b: a < b, "radd": lambda a, b: b + a, "rmul": lambda a, b: b * a,
    "rdiv": lambda a, b: b / a, "sum": total, "mean": mean, "norm": norm, "dot": dot,
})  # fmt: skip
