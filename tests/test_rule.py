"""What a signature declares, what a rule must return, and what is said where either is wrong."""

import copy
import linecache
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from steepest import formula
from steepest.formula import FormulaError, Tape, dot, norm
from steepest.rule import Rule, class_name, rule
from steepest.rules import RULES


@rule(paper="nobody")
def mine(p, g, m, total: "scalar", *, t, lr=0.5, beta=0.9):
    """Do this.

    And that.
    """
    m = beta * m + g
    return p - lr * m / t, m, total + t


def test_the_signature_declares():
    assert mine.name == "mine"
    assert mine.states == {"m": "mn", "total": ""}
    assert mine.options == {"lr": 0.5, "beta": 0.9}
    assert mine.counts_steps
    assert mine.summary == "Do this."
    assert repr(mine) == "<rule mine(p, g, m, total)>"


def test_annotations_may_be_postponed():
    names = {"rule": rule}
    text = "def later(p, g, d: 'scalar', e: rows, *, lr=0.1): return p, d, e"
    text = f"from __future__ import annotations\n@rule(matrix=True)\n{text}"
    exec(text, names)
    assert names["later"].states == {"d": "", "e": "m1"}


def test_it_computes_on_arrays():
    p, m, total = mine(np.ones(3), np.ones(3), np.ones(3), 1.0, t=2, beta=0.5)
    np.testing.assert_array_equal(p, np.full(3, 1 - 0.5 * 1.5 / 2))
    np.testing.assert_array_equal(m, np.full(3, 1.5))
    assert total == 3.0


def test_state_begins_at_zero_in_the_declared_shapes():
    @rule(matrix=True)
    def shapes(p, g, a, b: "rows", c: "columns", d: "left", e: "right", f: "scalar", h: "shared", *, lr=0.1):
        return p, a, b, c, d, e, f, h

    zeros = shapes.zeros(np.ones((2, 3, 4), np.float32))
    assert [np.shape(zero) for zero in zeros] == [(2, 3, 4), (2, 1), (1, 12), (2, 2), (12, 12), (), ()]
    assert not any(np.any(zero) for zero in zeros)


def test_walk_steps_in_the_precision_of_p():
    assert [float(p) for p in mine.walk(1.0, [1.0, 1.0])] == [0.5, 0.5 - 0.5 * 1.9 / 2]
    *_, p = mine.walk(np.ones(3, np.float32), [np.ones(3)] * 3)
    assert p.dtype == np.float32


DECLARATIONS = {
    "def bad(g, p, *, lr=0.1): return p": "the parameter, its gradient",
    "def bad(p): return p": "must be declared as bad(p, g, <states>, *, t, lr=...",
    "def bad(p, g, *states, lr=0.1): return p": "must be declared as",
    "def bad(p, g, *, lr=0.1, **more): return p": "must be declared as",
    "def bad(p, g, /, *, lr=0.1): return p": "must be declared as",
    "def bad(p, g, *, lr): return p": "the hyper-parameter lr needs a default",
    "def bad(p, g, *, lr=0.1, beta): return p": "the hyper-parameter beta needs a default",
    "def bad(p, g): return p": "has no learning rate: add the keyword lr=<default>",
    "def bad(p, g, m: 'row', *, lr=0.1): return p, m": "the state m is annotated 'row'; known: \"rows\"",
    "def bad(p, g, m: float, *, lr=0.1): return p, m": "the state m is annotated <class 'float'>",
    "def bad(p, g, m: 'rows', *, lr=0.1): return p, m": "declare it with @rule(matrix=True)",
}


@pytest.mark.parametrize("text", DECLARATIONS)
def test_a_wrong_declaration_is_refused(text):
    with pytest.raises(FormulaError) as caught:
        exec(f"@rule\n{text}", {"rule": rule})
    assert str(caught.value).startswith("rule bad")
    assert DECLARATIONS[text] in str(caught.value)
    assert "\n" not in str(caught.value)


RETURNS = {
    "None": "rule bad returned None, and must return (p, m)",
    "p": "rule bad returned 1 value, and must return (p, m)",
    "(p, m, m)": "rule bad returned 3 values, and must return (p, m)",
    "(p, None)": "rule bad returned None, and must return (p, m)",
    "[p, m]": "rule bad returned a list, and must return (p, m)",
    "(p, [m])": "rule bad returned for m no element",
    "('p', m)": "rule bad returned for p no element",
    "(p, g.T)": "rule bad returned for m a value of shape 'nm', not 'mn'",
}


@pytest.mark.parametrize("value", RETURNS)
def test_a_wrong_return_is_refused(value):
    names = {"rule": rule}
    exec(f"@rule\ndef bad(p, g, m, *, lr=0.1):\n    return {value}", names)
    with pytest.raises(FormulaError) as caught:
        names["bad"].trace(Tape(), t=1)
    assert str(caught.value).startswith(RETURNS[value])
    assert "\n" not in str(caught.value)


def test_what_is_shared_is_one_number_for_all_tensors():
    @rule
    def each(p, g, d: "shared", *, lr=0.1):
        return p, norm(g)

    with pytest.raises(FormulaError, match=r"rule each returned for d one number for each tensor.*everywhere"):
        each.trace(Tape(), t=1)


def test_a_value_of_an_earlier_step_is_refused():
    kept = []

    @rule
    def remembers(p, g, *, lr=0.1):
        kept.append(g)
        return p - lr * kept[0]

    @rule
    def compares(p, g, *, lr=0.1):
        return p - lr * dot(g, kept[0])

    remembers.trace(Tape(), t=1)
    for again in (remembers, compares):
        with pytest.raises(FormulaError, match=f"rule {again.name} .*from an earlier step.*state"):
            again.trace(Tape(), t=2)


def test_a_rule_without_state_must_return_p():
    @rule
    def forgot(p, g, *, lr=0.1):
        p - lr * g

    with pytest.raises(FormulaError, match=r"rule forgot returned None, and must return p$"):
        forgot(np.ones(2), np.ones(2), t=1)


def test_a_number_or_a_sum_for_a_whole_state_is_spread():
    @rule
    def spread(p, g, m, *, lr=0.1):
        return 1.0, formula.total(g)

    tape = Tape()
    assert [symbol.letters for symbol in spread.trace(tape, t=1)] == ["mn", "mn"]


def test_the_sentence_quotes_the_line_of_a_file(tmp_path):
    path = tmp_path / "my_rule.py"
    path.write_text("def wrong(p, g, *, lr=0.1):\n    p = p - g // 2  # here\n    return p\n")
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    with pytest.raises(FormulaError) as caught:
        rule(names["wrong"]).trace(Tape(), t=1)
    assert str(caught.value).startswith(f"rule wrong ({path}:2, `p = p - g // 2  # here`): // and %")


def test_the_sentence_quotes_the_line_of_a_notebook_cell():
    text, name = "def wrong(p, g, *, lr=0.1):\n    return p[0]\n", "<ipython-input-7-0123456789ab>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # as IPython does for a cell
    names = {}
    exec(compile(text, name, "exec"), names)
    with pytest.raises(FormulaError, match=r"rule wrong \(<ipython-input-7-0123456789ab>:2, `return p\[0\]`\)"):
        rule(names["wrong"]).trace(Tape(), t=1)


def test_the_line_is_that_of_the_rule_where_a_helper_fails():
    def helper(x):
        return x[0]

    @rule
    def calls(p, g, *, lr=0.1):
        return p - helper(g)

    with pytest.raises(FormulaError, match=r"rule calls \(.*test_rule.py:\d+, `return p - helper\(g\)`\)"):
        calls.trace(Tape(), t=1)


AT_A_PROMPT = """
import steepest as st, torch
@st.rule
def typed(p, g, m, *, lr=0.5):
    m = 0.5 * m + g
    return p - lr * m, m

@st.rule
def wrong(p, g, *, lr=0.5):
    p = p - lr * g
    return p[0]

p = torch.nn.Parameter(torch.ones(3)); p.grad = torch.ones(3)
opt = st.optim.Optimizer([p], rule=typed)
opt.step(); opt.step()
print("walked to", p.tolist())
try: wrong.trace(__import__("steepest").formula.Tape(), t=1)
except TypeError as error: print("said:", error)

"""


@pytest.mark.parametrize("arguments", [["-i", "-q"], ["-c", f"exec({AT_A_PROMPT!r})"]], ids=["prompt", "exec"])
def test_a_rule_typed_anywhere_works_and_says_its_line(arguments):
    text = AT_A_PROMPT if arguments[0] == "-i" else None
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    assert "walked to [-0.25, -0.25, -0.25]" in done.stdout
    assert re.search(r"said: rule wrong \((<stdin>:|line )\d+.*\): a formula speaks of one element and", done.stdout)
    assert "Traceback" not in done.stderr


def test_a_rule_is_its_own_copy_and_is_pickled_by_name():
    assert copy.deepcopy(mine) is mine
    assert pickle.loads(pickle.dumps(mine)) is mine
    assert pickle.loads(pickle.dumps(RULES["adamw"])) is RULES["adamw"]


def test_a_rule_that_no_name_leads_to_is_not_pickled():
    @rule
    def hidden(p, g, *, lr=0.1):
        return p - lr * g

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(hidden)


def test_class_names():
    names = [class_name(name) for name in RULES]
    assert len(set(names)) == len(RULES)
    assert {"SGD", "AdamW", "RMSprop", "ScheduleFreeAdamW", "AdEMAMix"} <= set(names)
    assert class_name("my_own_rule") == "MyOwnRule"


def test_every_rule_is_a_rule_of_its_file():
    for name, each in RULES.items():
        assert isinstance(each, Rule)
        assert each.name == name
        assert each.formula.__module__ == f"steepest.rules.{name}"


def other(value):
    """Another number of the same kind; of a setting that is no number, itself."""
    if isinstance(value, tuple):
        return tuple(other(part) for part in value)
    return value * 0.9 if isinstance(value, float) else value


def test_the_graph_of_a_rule_does_not_depend_on_numbers():
    for name, each in RULES.items():
        tapes = [Tape((4, 3)), Tape((4, 3))]
        changed = {option: other(value) for option, value in each.options.items()}
        for tape, options in zip(tapes, (dict(each.options), changed), strict=True):
            each.trace(tape, t=7, **options)
        assert tapes[0].nodes == tapes[1].nodes, name
