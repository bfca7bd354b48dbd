"""The parameters of a model: each once, under the name it has without wrappers, with all places that use it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Names under which a module that only wraps another one keeps it: no part of a parameter's name.
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PARALLEL = ("DistributedDataParallel", "DataParallel")


@dataclass
class Use:
    """A place where a parameter is used: its name there, and the module, if it is known."""

    name: str
    module: nn.Module | None

    @property
    def attribute(self) -> str:
        """What the module calls it, such as "weight"."""
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """What the model calls the module, "head" in "decoder.head.weight"; for a free parameter its own name."""
        path = self.name.split(".")
        return path[-2] if len(path) > 1 else path[-1]


@dataclass
class Found:
    """A parameter, and where it is used: in more than one place if it is tied."""

    tensor: Tensor
    uses: list[Use] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.uses[0].name


def modules(model: nn.Module, path: str = "", above: tuple[nn.Module, ...] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Yield each module with its path, in the order of registration. Wrappers share the path of what they wrap.

    above: the modules around this one; one that holds a module around it (a way back to its parent) is not a circle.
    """
    yield path, model
    parallel = type(model).__name__ in _PARALLEL
    above = (*above, model)
    for name, child in model.named_children():
        if any(child is module for module in above):
            continue
        wrapped = name in _WRAPPED or (parallel and name == "module")
        yield from modules(child, path if wrapped else f"{path}.{name}".lstrip("."), above)


def parameters(model: nn.Module | Iterable[tuple[str, Tensor]]) -> list[Found]:
    """Return the parameters in the order of registration. Raises a sentence for what has no shape or is none."""
    found: dict[int, Found] = {}
    for use, tensor in _uses(model):
        if is_lazy(tensor):
            raise ValueError(
                f"{use.name} has no shape yet: send one batch through the model before sorting it into groups"
            )
        found.setdefault(id(tensor), Found(tensor)).uses.append(use)
    if not found:
        raise ValueError("the model has no parameters, so there is nothing to sort into groups")
    return list(found.values())


def _uses(model: nn.Module | Iterable[tuple[str, Tensor]]) -> Iterator[tuple[Use, Tensor]]:
    if isinstance(model, nn.Module):
        for path, module in modules(model):
            for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
                yield Use(f"{path}.{name}".lstrip("."), module), tensor
        return
    wanted = "groups takes a model or its named_parameters(), and got "
    if not isinstance(model, Iterable):
        raise TypeError(f"{wanted}{type(model).__name__}")
    for pair in model:
        if not isinstance(pair, tuple):
            raise TypeError(f"{wanted}an iterable of {type(pair).__name__}")
        if len(pair) != 2 or not (isinstance(pair[0], str) and isinstance(pair[1], Tensor)):
            raise TypeError(f"{wanted}a pair of {' and '.join(type(part).__name__ for part in pair)}")
        name, tensor = pair
        yield Use(".".join(part for part in name.split(".") if part not in _WRAPPED), None), tensor


def undecayed(model: nn.Module | Iterable[tuple[str, Tensor]]) -> frozenset[str]:
    """Return the names that the model's own `no_weight_decay()` exempts, also where a wrapper hides that method."""
    if not isinstance(model, nn.Module):
        return frozenset()
    exempt: set[str] = set()
    for path, module in modules(model):
        names = getattr(module, "no_weight_decay", None)
        if not path and callable(names):
            exempt.update(names())  # pyright: ignore[reportArgumentType]
    return frozenset(exempt)
