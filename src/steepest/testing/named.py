"""Optimizers from the command line: `module:Class` and `option=value`."""

import ast
import importlib
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch

from steepest.spelling import meant
from steepest.testing.law import sentence


def find(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer class, or the callable that builds one, at "module:Class".

    >>> find("torch.optim:SGD").__name__
    'SGD'

    Raises ValueError with one sentence if the name is malformed, or module or class do not exist.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f'An optimizer is named "module:Class", as in "torch.optim:AdamW"; got {name!r}.')
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"There is no module {error.name!r} to import {name!r} from; is it installed, or in the working directory?"
        ) from error
    except Exception as error:
        raise ValueError(f"Importing {module_name!r} raised {sentence(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise ValueError(f"{getattr(found, '__name__', module_name)} has no {part!r}; {meant(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name!r} is a {type(found).__name__}, and not an optimizer class.")
    return cast(Callable[..., torch.optim.Optimizer], found)


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """Options given as "name=value" words; a value is read as Python, or else is text.

    >>> parse_options(["lr=0.1", "betas=(0.9, 0.99)", "fused=True", "rounding=kahan"])
    {'lr': 0.1, 'betas': (0.9, 0.99), 'fused': True, 'rounding': 'kahan'}

    Raises ValueError for a word that is not of this form.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f'An option is written "name=value", as in "lr=0.1"; got {word!r}.')
        spelled = {"true": "True", "false": "False", "none": "None"}.get(text, text)
        try:
            found[name] = ast.literal_eval(spelled)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
