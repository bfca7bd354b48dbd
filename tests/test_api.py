"""The public names: frozen, lazy, cheap, and never hidden by a module of the same name."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import steepest

# Adding or removing a public name is a decision: it changes this list and the changelog.
NAMES = [
    "Plan", "Run", "Schedule", "Task", "column_mean", "dot", "eigenbasis", "epsilon", "everywhere", "examine", "exp",
    "fit", "groups", "is_matrix",
    "largest", "log", "maximum", "mean", "minimum", "norm", "optim", "orthogonalize", "plan", "qr", "rms", "row_mean",
    "rule", "rules", "schedules", "sides", "sign", "size", "sort_columns", "sqrt", "square_total", "testing", "total",
    "transpose", "watch", "where",
]  # fmt: skip

# Of what is installed, what `import steepest` must not pay for.
HEAVY = {"torch", "numpy", "rich", "typer", "llvmlite", "triton", "sklearn"}


def run_python(code: str) -> str:
    """The last line that code prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rsplit("\n", 1)[-1]


def test_the_public_names_are_frozen():
    assert sorted(steepest._WHERE) == sorted(NAMES)
    assert {name for name in dir(steepest) if not name.startswith("_")} == set(NAMES)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(inspect.getfile(steepest)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == steepest._WHERE


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_what_its_module_defines(name):
    where = steepest._WHERE[name]
    module = importlib.import_module(where)
    value = getattr(steepest, name)
    if where == "steepest":
        assert value is importlib.import_module(f"steepest.{name}")
    else:
        assert value is getattr(module, name)
        assert not isinstance(value, ModuleType)


def test_formula_functions_are_public():
    formula = importlib.import_module("steepest.formula")
    functions = {name for name in formula.__all__ if inspect.isfunction(getattr(formula, name))}
    assert {name for name, where in steepest._WHERE.items() if where == "steepest.formula"} == functions


def test_an_unknown_name_is_answered_with_the_nearest_or_all():
    with pytest.raises(AttributeError, match=r"steepest has no 'optimizer'; did you mean 'optim'\?"):
        steepest.optimizer  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match=r"steepest has no 'xyzzy'; there are .*rules"):
        steepest.xyzzy  # noqa: B018
    assert not hasattr(steepest, "trainer")


LOADED = "import json, sys; print(json.dumps([name for name in sys.modules]))"


def test_importing_the_package_imports_nothing_of_weight():
    loaded = json.loads(run_python(f"import steepest; {LOADED}"))
    assert {name for name in loaded if name.startswith("steepest")} == {"steepest"}
    assert not (HEAVY | {"difflib"}) & set(loaded)  # a name that exists needs no look for the nearest
    assert HEAVY & set(json.loads(run_python(f"import steepest, rich; {LOADED}")))  # the look sees what is there


def test_schedules_need_neither_torch_nor_numpy():
    loaded = json.loads(run_python(f"import steepest; steepest.schedules.cosine()(0, 10); {LOADED}"))
    assert "steepest.schedules" in loaded
    assert not HEAVY & set(loaded)


# A module and a function of one name. `module` stands for steepest.<name>, whose function <name> returns 7.

PREPARE = (
    "import sys, types, steepest; steepest.__path__.insert(0, {folder!r}); steepest._WHERE[{name!r}] = {where!r}; "
)
ORDERS = {
    "the package first": "f = steepest.{name}; import steepest.{name}; print(f(), steepest.{name}())",
    "the module first": "import steepest.{name}; print(steepest.{name}(), steepest.{name}())",
    "from the module": "from steepest.{name} import other; print(steepest.{name}(), 7 * (other() == 8))",
    "from the package": "from steepest import {name} as f; from steepest.{name} import {name} as g; print(f(), g())",
    "by importlib": "from importlib import import_module as i; print(i('steepest.{name}').{name}(), steepest.{name}())",
    "from another module": "import steepest.neighbour; print(steepest.neighbour.call(), steepest.{name}())",
}


@pytest.mark.parametrize("name", ["fit", "groups", "rule", "race"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_function_is_not_hidden_by_its_module(name, order, tmp_path):
    (tmp_path / f"{name}.py").write_text(f"def {name}(): return 7\ndef other(): return 8\n")
    (tmp_path / "neighbour.py").write_text(f"from steepest.{name} import {name}\ndef call(): return {name}()\n")
    prepare = PREPARE.format(folder=str(tmp_path), name=name, where=f"steepest.{name}")
    assert run_python(prepare + ORDERS[order].format(name=name)) == "7 7"


def test_without_the_package_class_the_module_would_hide_its_function(tmp_path):
    (tmp_path / "race.py").write_text("def race(): return 7\n")
    prepare = PREPARE.format(folder=str(tmp_path), name="race", where="steepest.race")
    plain = "sys.modules['steepest'].__class__ = types.ModuleType; import steepest.race; "
    assert run_python(prepare + plain + "print(type(steepest.race).__name__)") == "module"


@pytest.mark.parametrize("module", sorted(info.name for info in pkgutil.iter_modules(steepest.__path__)))
def test_every_room_can_be_imported_first(module):
    """Each module imports in a fresh interpreter, whatever was imported before: no hidden cycle."""
    run_python(f"import importlib; importlib.import_module('steepest.{module}')")
