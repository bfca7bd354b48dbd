"""Which file each tensor of a tree goes to, under which name, and which tensors are the same memory."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steepest.checkpoint.dtypes import NAMES
from steepest.checkpoint.tree import Found, encode

MODEL, OPTIMIZER, REST, STATE = "model.safetensors", "optimizer.safetensors", "rest.safetensors", "state.json"
LARGE = 1 << 16
"""A tensor of neither model nor optimizer is written into state.json up to so many bytes, and beyond to a file."""


@dataclass(eq=False)
class Kept:
    """A tensor whose values are written, and where."""

    file: str
    name: str
    tensor: Tensor


@dataclass
class Placed:
    """A tree made ready: as JSON, the tensors to write, and for `model.safetensors` the names that have no own values.

    same: name -> the name under which the same memory is written, as `safetensors.torch.save_model` notes it.
    """

    tree: Any
    kept: list[Kept] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Candidate:
    found: Found
    rank: int
    start: int
    end: int
    contiguous: bool

    @property
    def memory(self) -> tuple[Any, ...]:
        tensor = self.found.tensor
        return self.start, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()


def place_all(tree: dict[str, Any]) -> Placed:
    """Return where everything of a tree goes. The same memory is written once: for tensors that are equal views of
    it, and for parts of a contiguous tensor of the same dtype. Raises TypeError as `encode` does."""
    found: list[Found] = []
    placed = Placed(encode(tree, ("tree",), found))
    names = {MODEL: {"__metadata__"}, OPTIMIZER: {"__metadata__"}, REST: {"__metadata__"}, STATE: set()}
    holder = _holders(found)
    kept: dict[Found, Kept] = {}
    for each in found:
        if each not in holder:
            file = _file(each)
            kept[each] = Kept(file, _free_name(each.path, names[file]), each.tensor)
            placed.kept.append(kept[each])
    for each in found:
        own = kept[holder.get(each, each)]
        each.entry.update(file=own.file, name=own.name, dtype=NAMES[each.tensor.dtype], shape=list(each.tensor.shape))
        if each not in holder:
            continue
        if _view(each.tensor) != _view(own.tensor):
            offset = (each.tensor.data_ptr() - own.tensor.data_ptr()) // each.tensor.element_size()
            each.entry.update(stride=list(each.tensor.stride()), offset=offset)
        if own.file == MODEL and _file(each) == MODEL:
            placed.same[_free_name(each.path, names[MODEL])] = own.name
    return placed


def _view(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _file(found: Found) -> str:
    section = found.path[1] if len(found.path) > 2 else None
    if section in ("model", "optimizer"):
        return MODEL if section == "model" else OPTIMIZER
    return STATE if found.tensor.nbytes <= LARGE else REST


def _free_name(path: tuple[Any, ...], taken: set[str]) -> str:
    """Return the name of a tensor in its file: its name in the `state_dict`, made different where two are the same."""
    own = path[2:] if len(path) > 2 and path[1] in ("model", "optimizer") else path[1:]
    plain = ".".join(map(str, own))
    plain = plain.encode("utf-8", "replace").decode()  # a header is UTF-8, and a name may be half a character
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}#{number}"
    taken.add(name)
    return name


def _holders(found: list[Found]) -> dict[Found, Found]:
    """Return for each tensor that needs no values of its own the one whose values it shares.

    A tensor of the model is held by one of the model only, and one of the optimizer by one of the two, so that each
    safetensors file can be read without the files after it.
    """
    shared: dict[Any, list[_Candidate]] = defaultdict(list)
    for each in found:
        if each.tensor.numel():
            storage = each.tensor.untyped_storage().data_ptr()
            shared[each.tensor.device, storage, each.tensor.dtype].append(_candidate(each))
    holders: dict[Found, Found] = {}
    for group in shared.values():
        if len(group) > 1:
            _share(group, holders)
    return holders


def _candidate(found: Found) -> _Candidate:
    tensor = found.tensor
    start = tensor.data_ptr()
    if tensor.is_contiguous():
        size = tensor.nbytes
    else:
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        size = (last + 1) * tensor.element_size()
    rank = {MODEL: 0, OPTIMIZER: 1}.get(_file(found), 2)
    return _Candidate(found, rank, start, start + size, tensor.is_contiguous())


def _share(group: list[_Candidate], holders: dict[Found, Found]) -> None:
    """Sweep over one storage from its start: what lies within the widest contiguous tensor so far is a view of it."""
    group.sort(key=lambda each: (each.start, -each.end, not each.contiguous, each.rank))
    equal: dict[tuple[Any, ...], _Candidate] = {}
    widest: dict[int, _Candidate] = {}
    for each in group:
        plain = not (each.found.tensor.is_conj() or each.found.tensor.is_neg())
        before = equal.get(each.memory)
        around = [wide for rank, wide in widest.items() if rank <= each.rank and wide.end >= each.end and plain]
        if before is not None and before.rank <= each.rank:
            holders[each.found] = before.found
        elif around:
            holders[each.found] = around[0].found
        else:
            equal[each.memory] = each
            wide = widest.get(each.rank)
            if each.contiguous and plain and (wide is None or wide.end < each.end):
                widest[each.rank] = each
