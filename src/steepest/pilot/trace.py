"""The two ends of a model, found by watching one forward pass: where data enters, where the prediction leaves."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNN, nn.GRU, nn.LSTM)


@dataclass
class Calls:
    """How a layer was called in one evaluation of the loss. data: whether its input was data, nothing learned."""

    times: int = 0
    data: bool = True


@dataclass
class Ends:
    """The layers at the two ends. first: those that data enters; last: a Linear whose output is the prediction.

    differentiated: the loss is made of derivatives of the model with regard to its inputs, as where an equation is
    solved: the inputs ask for a gradient. foreign: how many layers that data enters are left out.
    """

    first: list[nn.Module] = field(default_factory=list)
    last: nn.Linear | None = None
    differentiated: bool = False
    foreign: int = 0


@contextmanager
def hooks(modules: Sequence[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """Have a forward hook on these modules, inside."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_ends(model: nn.Module, evaluate: Callable[[], Any]) -> Ends:
    """Evaluate the loss once, with gradients, and say which layers stand at the ends.

    Left out are layers whose weights are frozen, shared with others, made by a parametrisation, or not real numbers in
    32 bits or more: to these nothing is done.
    """
    calls: dict[nn.Module, Calls] = {}
    outputs: list[Any] = []
    asking: list[Tensor] = []

    def arrive(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs.append(output)
        asking.extend(x for x in inputs if isinstance(x, Tensor) and x.is_leaf and x.requires_grad)

    def watch(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        call = calls.pop(layer, Calls())  # the last one called is the last in the dict
        calls[layer] = call
        call.times += 1
        x = inputs[0] if inputs else None
        if not isinstance(x, Tensor) or x.requires_grad or not x.is_floating_point():
            call.data = False

    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    with hooks(layers, watch), hooks([model], arrive):
        evaluate()
    plain = plain_layers(model)
    entered = [layer for layer, call in calls.items() if call.data]
    first = [layer for layer in entered if layer in plain]
    return Ends(first, _last(calls, outputs, plain), bool(asking), len(entered) - len(first))


def _last(calls: dict[nn.Module, Calls], outputs: list[Any], plain: set[nn.Module]) -> nn.Linear | None:
    if not calls:
        return None
    layer, call = list(calls.items())[-1]
    if not isinstance(layer, nn.Linear) or layer not in plain or call.times != 1 or len(outputs) != 1:
        return None
    output = outputs[0]
    fits = isinstance(output, Tensor) and output.ndim > 0 and output.shape[-1] == layer.out_features
    return layer if fits else None


def plain_layers(model: nn.Module, kinds: tuple[type[nn.Module], ...] = LAYERS) -> set[nn.Module]:
    """Return the layers of these kinds whose parameters are their own, trained, and ordinary."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {
        module
        for module in model.modules()
        if isinstance(module, kinds)
        and all(_ordinary(p, owners) for p in module.parameters(recurse=False))
        and _whole(module)
    }


def _ordinary(parameter: nn.Parameter, owners: dict[int, int]) -> bool:
    wide = parameter.dtype in (torch.float32, torch.float64)
    return parameter.requires_grad and wide and owners[id(parameter)] == 1 and type(parameter) is nn.Parameter


def _whole(module: nn.Module) -> bool:
    """Whether a layer computes with the parameters it holds, and not with something made of them."""
    names = dict(module.named_parameters(recurse=False))
    return (
        not hasattr(module, "parametrizations")
        and any(name.startswith("weight") for name in names)
        and (not any(name.endswith(("_g", "_v", "_orig")) for name in names))
    )
