"""What a formula may say, what it means on arrays and on symbols, and the one sentence for what it may not say."""

import math

import numpy as np
import pytest
import torch

from steepest import formula
from steepest.formula import FormulaError, Tape
from steepest.rule import rule

NOT_ONE_ELEMENT = "an element has no single truth value"

# What somebody may write into a rule -> a piece of the sentence that says what to write instead.
REFUSED = {
    "g if g > 0 else m": "write where(condition, a, b)",
    "g if g == 0 else m": NOT_ONE_ELEMENT,
    "g if g != 0 else m": NOT_ONE_ELEMENT,
    "g and m": "a & b",
    "not g": NOT_ONE_ELEMENT,
    "max(p, g)": "maximum(a, b)",
    "min(0.5, g)": NOT_ONE_ELEMENT,
    "sorted([p, g])": NOT_ONE_ELEMENT,
    "g if 0 < g < 1 else m": NOT_ONE_ELEMENT,
    "g in (p, m)": NOT_ONE_ELEMENT,
    "g.sqrt()": "write sqrt",
    "g.mul_(2)": "write *",
    "g.clamp(0)": "minimum(maximum(x, low), high)",
    "g.numel()": "write size",
    "g.pow(3)": "x * x",
    "g.item()": "speaks of one element",
    "g.shape": "sides(p)",
    "len(g.shape)": "sides(p)",
    "len(g)": "size(x)",
    "math.sqrt(g)": "steepest.sqrt",
    "math.hypot(p, g)": "steepest.sqrt",
    "float(g)": "steepest.sqrt",
    "int(g)": "not a single number",
    "round(g)": "not a single number",
    "round(g, 2)": "not a single number",
    "p[0]": "cannot index",
    "list(g)": "cannot be iterated",
    "g // 2": "write a / b",
    "2 // g": "write a / b",
    "g % 2": "write a / b",
    "divmod(g, 2)": "write a / b",
    "2.0 ** p": "write exp(x * log(2.0))",
    "p ** 3": "write x * x",
    "p ** -1": "write x * x",
    "p ** m": "write exp(y * log(x))",
    "p @ g": "inner sides differ",
    "p @ 2.0": "for elements write a * b or dot(a, b)",
    "g & m": "join comparisons",
    "(g > 0) & 1": "join comparisons",
    "g | m": "join comparisons",
    "~g": "needs a comparison",
    "(g > 0) ^ (m > 0)": "write a != b",
    "(g > 0) + (m > 0)": "write where(condition, 1.0, 0.0)",
    "(g > 0) - (m > 0)": "write where(condition, 1.0, 0.0)",
    "-(g > 0)": "write where(condition, 1.0, 0.0)",
    "sqrt(g > 0)": "write where(condition, 1.0, 0.0)",
    "where(g, m, p)": "needs a comparison",
    "where([True], g, m)": "needs a comparison",
    "np.clip(g, -1, 1)": "minimum(maximum(x, low), high)",
    "np.power(g, 2)": "x * x",
    "np.asarray(g)": "cannot become an array",
    "np.stack([p, g])": "np.stack cannot be used",
    "np.add(p, g, where=True)": "np.add cannot be used",
    "np.add.reduce(g)": "np.add cannot be used",
    "np.linalg.svd(g)": "np.svd cannot be used",
    "np.isnan(g)": "np.isnan cannot be used",
    "torch.clamp(g, -1, 1)": "minimum(maximum(x, low), high)",
    "torch.zeros_like(g)": "write 0",
    "torch.lerp(m, g, 0.1)": "b * x + (1 - b) * y",
    "torch.add(m, g, alpha=2)": "torch.add cannot be used",
    "torch.sum(g, 0)": "no further arguments",
    "g * np.ones(3)": "got ndarray",
    "np.ones(3) * g": "got ndarray",
    "g * torch.ones(3)": "got Tensor",
    "torch.ones(3) * g": "got Tensor",
    "g * 'x'": "got str",
    "g * None": "got NoneType",
    "g * 1j": "got complex",
    "g * torch.tensor(1j)": "got Tensor",
    "total(total(g))": "got one number",
    "norm(2.0)": "got the number 2.0",
    "everywhere(g)": "one scalar from each tensor",
    "sides(p)": "@rule(matrix=True)",
    "g + g.T": "their sides differ",
    "total(g).T": ".T needs a matrix",
}


def traced(expression, **more):
    """The tape of a rule of five lines whose third is the expression."""
    names = {"math": math, "np": np, "torch": torch, "rule": rule, **vars(formula), **more}
    text = f"@rule\ndef mine(p, g, m, *, lr=0.1):\n    m = {expression}\n    return p - lr * m, m\n"
    exec(text, names)
    tape = Tape()
    tape.results = None if hasattr(tape, "results") else None
    return names["mine"], tape


@pytest.mark.parametrize("expression", REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence_with_the_line(expression):
    names = {"math": math, "np": np, "torch": torch, "rule": rule, **vars(formula)}
    exec(f"@rule\ndef mine(p, g, m, *, lr=0.1):\n    m = {expression}\n    return p - lr * m, m\n", names)
    with pytest.raises(FormulaError) as caught:
        names["mine"].trace(Tape(), t=1)
    sentence = str(caught.value)
    assert sentence.startswith("rule mine (line 3): ")
    assert REFUSED[expression] in sentence
    assert "\n" not in sentence
