"""A tree of plain data as JSON and back, every type kept. Nothing in the text can name anything to import or call.

JSON's own values stand for themselves: text, finite numbers, true, false, null, and an array for a list. Anything else
is an object with one key that says what it is: {"tuple": [1, 2]}, {"dict": {"a": 1}}, {"pairs": [[0, "a"]]} for a dict
with other keys than text, {"ordered": ...}, {"size": ...}, {"bytes": "00ff"}, {"float": ...} for what JSON has no
number for, {"int": "0x..."}, {"dtype": "float32"}, {"tensor": {...}}.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steepest.checkpoint.dtypes import BY_NAME, NAMES

DEEPEST = 100
"""So many levels a tree may have; one that holds itself has more."""


@dataclass(eq=False)
class Found:
    """A tensor met in a tree: where, and the object in the JSON tree that will say where its values are."""

    path: tuple[Any, ...]
    tensor: Tensor
    entry: dict[str, Any] = field(default_factory=dict)


Keys = tuple[Any, ...]
"""The keys and indices that lead to a value, after the name of the whole."""


def encode(value: Any, path: Keys, found: list[Found] | None) -> Any:
    """Return a tree as JSON can hold it, and add its tensors to `found`; None: there may be no tensors.

    Raises a TypeError that names the place of a value which cannot be kept.
    """
    if _plain(value):
        return value
    if len(path) > DEEPEST:
        raise TypeError(f"{place(path[:4])}... is nested more than {DEEPEST} levels deep; does it hold itself?")
    if isinstance(value, Tensor):
        return {"tensor": _tensor(value, path, found)}
    if type(value) not in _TO:
        raise TypeError(f"{place(path)} is of type {_name(type(value))}, which a checkpoint does not keep. {_KEPT}")
    return _TO[type(value)](value, path, found)


_KEPT = (
    "It keeps tensors, text, bytes, numbers, booleans, None, dtypes and sizes, in dicts, lists and tuples of exactly "
    "these types. Turn the value into one of them, as with float(x) or dict(x)."
)


def place(path: Keys) -> str:
    """Return a path as one would write it in Python: tree["optimizer"]["state"][0]."""
    return str(path[0]) + "".join(f"[{key!r}]" for key in path[1:])


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _tensor(tensor: Tensor, path: Keys, found: list[Found] | None) -> dict[str, Any]:
    fault = _fault(tensor, found is not None)
    if fault:
        raise TypeError(f"{place(path)} is {fault}")
    assert found is not None
    found.append(Found(path, tensor))
    return found[-1].entry


def _fault(tensor: Tensor, welcome: bool) -> str:
    """Return why a tensor cannot be kept, or an empty text."""
    if not welcome:
        return "a tensor; only plain data can stand here. Use .item() or .tolist()."
    if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        return f"of type {_name(type(tensor))}; expected a plain tensor. Gather or convert it first."
    if tensor.is_meta:
        return "a tensor on the meta device, which has no values; expected one with memory."
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = f"layout {tensor.layout}, dtype {tensor.dtype}"
        return f"a tensor of {kind}; expected one with strided memory. Use .to_dense() or .dequantize()."
    if tensor.dtype not in NAMES:
        return f"a tensor of {tensor.dtype}, which a checkpoint does not keep. Save its bytes instead."
    return ""


def _items(value: Any, path: Keys, found: list[Found] | None) -> list[Any]:
    return [inner if _plain(inner) else encode(inner, (*path, index), found) for index, inner in enumerate(value)]


def _plain(value: Any) -> bool:
    """Return whether a value is the same in JSON; a history of a million numbers should not take a second."""
    kind = type(value)
    return (
        value is None
        or kind in (str, bool)
        or (kind is float and math.isfinite(value))
        or (kind is int and -(2**63) <= value < 2**63)
    )


def _pairs(value: dict[Any, Any], path: Keys, found: list[Found] | None) -> list[Any]:
    return [[encode(key, (*path, key), None), encode(inner, (*path, key), found)] for key, inner in value.items()]


def _dict(value: dict[Any, Any], path: Keys, found: list[Found] | None) -> dict[str, Any]:
    if all(type(key) is str for key in value):
        return {"dict": {key: encode(inner, (*path, key), found) for key, inner in value.items()}}
    return {"pairs": _pairs(value, path, found)}


def _dtype(value: torch.dtype, path: Keys, found: list[Found] | None) -> dict[str, Any]:
    if value not in NAMES:
        raise TypeError(f"{place(path)} is {value}, which a checkpoint does not keep.")
    return {"dtype": NAMES[value]}


_TO: dict[type, Callable[[Any, Keys, list[Found] | None], Any]] = {
    int: lambda value, path, found: {"int": hex(value)},
    float: lambda value, path, found: {"float": struct.pack(">d", value).hex()},
    bytes: lambda value, path, found: {"bytes": value.hex()},
    torch.dtype: _dtype,
    list: _items,
    tuple: lambda value, path, found: {"tuple": _items(value, path, found)},
    torch.Size: lambda value, path, found: {"size": list(value)},
    dict: _dict,
    OrderedDict: lambda value, path, found: {"ordered": _pairs(value, path, found)},
}

Fetch = Callable[[dict[str, Any]], Tensor]


def decode(node: Any, fetch: Fetch) -> Any:
    """Return the tree that `encode` was given; `fetch` returns the tensor that an entry describes.

    Raises ValueError, TypeError, LookupError, AttributeError or RecursionError when the node is not from `encode`.
    """
    if node is None or isinstance(node, str | bool | int | float):
        return node
    if isinstance(node, list):
        return [decode(inner, fetch) for inner in node]
    ((kind, content),) = node.items()
    return _FROM[kind](content, fetch)


def _mapping(content: Any, fetch: Fetch) -> dict[Any, Any]:
    return {decode(key, fetch): decode(inner, fetch) for key, inner in content}


_FROM: dict[str, Callable[[Any, Fetch], Any]] = {
    "int": lambda content, fetch: int(content, 16),
    "float": lambda content, fetch: struct.unpack(">d", bytes.fromhex(content))[0],
    "bytes": lambda content, fetch: bytes.fromhex(content),
    "dtype": lambda content, fetch: BY_NAME[content],
    "tuple": lambda content, fetch: tuple(decode(content, fetch)),
    "size": lambda content, fetch: torch.Size(content),
    "dict": lambda content, fetch: {key: decode(inner, fetch) for key, inner in content.items()},
    "pairs": _mapping,
    "ordered": lambda content, fetch: OrderedDict(_mapping(content, fetch)),
    "tensor": lambda content, fetch: fetch(content),
}


def copied(value: Any, name: str) -> Any:
    """Return a copy of plain data that no one else holds; TypeError where it is not plain."""
    return decode(encode(value, (name,), None), no_tensor)


def no_tensor(entry: dict[str, Any]) -> Tensor:
    """Refuse a tensor among plain data that was read."""
    raise TypeError("there is a tensor among plain data")
