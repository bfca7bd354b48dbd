"""Learning-rate factors by depth: the first blocks of a trained model move less than the last ones."""

from collections.abc import Sequence
from numbers import Real

from torch import nn

from steepest.groups.parameters import Found, modules


def factors(model: object, found: Sequence[Found], decay: float | None) -> dict[str, float]:
    """Return decay^(n + 1 - depth) by name: blocks have depth 1 to n, what comes before them 0, after them n + 1."""
    if decay is None:
        return {}
    if not isinstance(decay, Real) or not 0 < decay <= 1:
        raise ValueError(
            f"layer_decay is {decay!r}, and must lie in (0, 1]: the factor from one block to the one before"
        )
    blocks = _blocks(model) if isinstance(model, nn.Module) else []
    if not blocks:
        raise ValueError("layer_decay needs a model with a ModuleList or Sequential of blocks, and found none")
    inside = [_block(this.name, blocks) for this in found]
    last = max(i for i, block in enumerate(inside) if block)
    depths = [max(inside[: i + 1]) if i <= last else len(blocks) + 1 for i in range(len(found))]
    return {this.name: decay ** (len(blocks) + 1 - depth) for this, depth in zip(found, depths, strict=True)}


def _block(name: str, blocks: Sequence[str]) -> int:
    """Return the number of the block that a parameter lies in, counted from 1, or 0."""
    return next((i for i, path in enumerate(blocks, 1) if name.startswith(path + ".")), 0)


def _blocks(model: nn.Module) -> list[str]:
    """Return the paths of the blocks: what the outermost lists hold, if it has a matrix.

    A Sequential of modules of which no two are of one class is a layer in parts, not a list of blocks.
    """
    paths: list[str] = []
    for path, module in modules(model):
        if _block(path + ".", paths) or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        children = [(name, c) for name, c in module.named_children() if any(p.ndim > 1 for p in c.parameters())]
        alike = len({type(child) for _, child in children}) < len(children)
        if alike or isinstance(module, nn.ModuleList):
            paths += [f"{path}.{name}".lstrip(".") for name, _ in children]
    return paths
