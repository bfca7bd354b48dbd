"""What a parameter is to a model: a hidden matrix, or something that no matrix rule should touch, and why."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from steepest.groups.parameters import Found, Use, modules

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_CONVOLUTION = nn.modules.conv._ConvNd
_NORM = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)
_FUSED = re.compile(r"(to_|attn_)?qkv(_proj)?|Wqkv|c_attn|in_proj")
_HEAD = re.compile(r"heads?|lm_head|classifier|output|logits")
_GATES = {3: "3 gates", 4: "4 gates"}


@dataclass(frozen=True)
class Role:
    """What a parameter is. blocks: how many matrices are piled up in it, 0 if it is none. decays: by weight decay."""

    why: str
    blocks: int = 0
    decays: bool = False


def stack_shape(shape: Sequence[int], blocks: int = 1) -> tuple[int, int, int]:
    """Return the shape (blocks, m, n) in which a matrix rule sees a parameter.

    One block: rows are the first dimension, columns all the others. More: the rows are cut into equal blocks; if the
    first dimension only counts the blocks, as in experts of shape (blocks, m, n), rows are the second dimension.
    """
    rows = shape[0] if shape else 1
    if blocks < 1 or rows % blocks:
        raise ValueError(f"a parameter of shape {tuple(shape)} cannot be cut into {blocks} blocks of equal rows")
    if blocks > 1 and rows == blocks and len(shape) > 2:
        return blocks, shape[1], math.prod(shape[2:])
    return blocks, rows // blocks, math.prod(shape[1:])


def role(found: Found, is_head: bool, tensors: Mapping[str, Tensor]) -> Role:
    """Say what a parameter is. tensors: all of the model's by name, for gates are counted by looking at a sibling."""
    shape = found.tensor.shape
    tied = ", tied to " + ", ".join(use.name for use in found.uses[1:]) if len(found.uses) > 1 else ""
    if len(shape) < 2:
        return Role("vector" + tied)
    if any(_is_embedding(use, len(shape)) for use in found.uses):
        return Role("embedding" + tied)
    if is_head:
        return Role("output head" + tied, decays=True)
    this = _weight(found.uses[0], shape, tensors)
    if this.blocks and min(stack_shape(shape, this.blocks)[1:]) == 1:
        return Role(f"{this.why}, of one row or column" + tied, decays=True)
    return replace(this, why=this.why + tied)


def _is_embedding(use: Use, dimensions: int) -> bool:
    if use.module is None:
        return dimensions == 2 and re.search(r"emb|^wte$|^wpe$", use.owner) is not None
    return isinstance(use.module, nn.Embedding | nn.EmbeddingBag) or "Embedding" in type(use.module).__name__


def _weight(use: Use, shape: Sequence[int], tensors: Mapping[str, Tensor]) -> Role:
    """Say what a parameter of two or more dimensions is that is neither embedding nor head."""
    module, kind = use.module, type(use.module).__name__
    if isinstance(module, _NORM) or re.search(r"norm(\dd)?$", (kind if module else use.owner).lower()):
        return Role("norm")
    if use.attribute.startswith(("weight_ih", "weight_hh")):
        return _recurrent(use, tensors)
    if isinstance(module, _CONVOLUTION):
        groups = module.groups
        return Role("convolution" + (f", {groups} groups" if groups > 1 else ""), groups, decays=True)
    if isinstance(module, nn.MultiheadAttention):
        return _attention(use)
    if len(shape) > 2 and re.search(r"expert|moe", f"{use.name} {kind}".lower()):
        return Role(f"{shape[0]} experts", shape[0], decays=True)
    if use.attribute == "weight" and (len(shape) == 2 or module is None or isinstance(module, nn.Bilinear)):
        fused = _FUSED.fullmatch(use.owner) and shape[0] == 3 * shape[1]
        return Role("fused q, k, v" if fused else "hidden weight", 3 if fused else 1, decays=True)
    return Role("free parameter")


def _recurrent(use: Use, tensors: Mapping[str, Tensor]) -> Role:
    if isinstance(use.module, _RECURRENT):
        gates = tensors[use.name].shape[0] // use.module.hidden_size
    else:
        states = tensors.get(use.name.replace("weight_ih", "weight_hh"), tensors[use.name])
        gates = states.shape[0] // states.shape[1]
    return Role(
        f"recurrent, {_GATES[gates]}" if gates in _GATES else "recurrent", gates if gates in _GATES else 1, True
    )


def _attention(use: Use) -> Role:
    if use.attribute == "in_proj_weight":
        return Role("fused q, k, v", 3, decays=True)
    return Role("hidden weight", 1, decays=True) if use.attribute.endswith("_weight") else Role("free parameter")


def heads(model: object, found: Sequence[Found]) -> frozenset[str]:
    """Return the name of the output layer's weight: the last layer, unless it is tied or one of many equal blocks."""
    if not isinstance(model, nn.Module):
        weights = [this for this in found if this.tensor.ndim >= 2 and this.uses[0].attribute == "weight"]
        named = [this.name for this in weights if _HEAD.fullmatch(this.uses[0].owner)]
        return frozenset(named or [this.name for this in weights[-1:]])
    by_path = dict(modules(model))
    layers = (nn.Linear, _CONVOLUTION, nn.MultiheadAttention, *_RECURRENT)
    last = [path for path, module in by_path.items() if isinstance(module, layers)][-1:]
    if not last or not isinstance(by_path[last[0]], nn.Linear | _CONVOLUTION) or _is_repeated(last[0], by_path):
        return frozenset()
    weight = by_path[last[0]].weight
    return frozenset(this.name for this in found if this.tensor is weight)


def _is_repeated(path: str, by_path: Mapping[str, nn.Module]) -> bool:
    """Whether a module lies in a block that has a twin beside it, or in an attention layer."""
    parts = path.split(".")
    for depth in range(1, len(parts)):
        block = by_path[".".join(parts[:depth])]
        if isinstance(block, nn.MultiheadAttention):
            return True
        beside = by_path[".".join(parts[: depth - 1])].children()
        if any(other is not block and _plan(other) == _plan(block) for other in beside):
            return True
    return False


def _plan(module: nn.Module) -> tuple[type, list[tuple[int, ...]]]:
    return type(module), [tuple(parameter.shape) for parameter in module.parameters()]
