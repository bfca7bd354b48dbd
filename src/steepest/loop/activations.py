"""Activation checkpointing: of repeated blocks only the inputs are kept, and the rest computed again when it is needed.

Chen et al. 2016, arXiv:1604.06174. Costs about one more forward pass of these blocks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that stand side by side with a twin, outermost ones only: the layers of a deep network.

    Blocks are twins when they have the same class and the same parameters in name and shape, and have children: a row
    of single layers is no row of blocks.
    """
    found: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        children = list(module.children())
        plans = [_plan(child) for child in children]
        for child, plan in zip(children, plans, strict=True):
            if plan is not None and plans.count(plan) > 1:
                found.append(child)
            else:
                visit(child)

    visit(model)
    return found


def _plan(module: nn.Module) -> tuple[Any, ...] | None:
    if next(module.children(), None) is None or next(module.parameters(), None) is None:
        return None
    return type(module), tuple((name, tuple(each.shape)) for name, each in module.named_parameters())


def recompute(model: nn.Module) -> Callable[[], None]:
    """Have every repeated block of the model compute its activations anew in the backward pass; return the undoing."""
    blocks = repeated_blocks(model)
    if not blocks:
        raise ValueError(
            f"checkpoint_activations= recomputes blocks that are repeated, and {type(model).__name__} has no two equal "
            "blocks side by side (as the layers of a transformer in a ModuleList): call torch.utils.checkpoint in the "
            "model where it should recompute."
        )
    for block in blocks:
        block.forward = partial(_again, block.forward)  # type: ignore[method-assign]

    def undo() -> None:
        for block in blocks:
            vars(block).pop("forward", None)

    return undo


def _again(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Yield a function that tells how many bytes the forward passes inside have kept for backpropagation.

    Each storage counts once, and weights not at all.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(kept.values())
