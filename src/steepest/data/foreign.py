"""What can be learnt from and done with a loader that is not ours."""

from typing import Any

import torch
from torch.utils.data import DataLoader


def length(iterable: Any) -> int | None:
    """Return the number of batches; None for a generator, or a DataLoader over a dataset without a length."""
    try:
        return len(iterable)
    except TypeError:
        return None


def sampled(iterable: Any) -> int | None:
    """Return the number of samples in an epoch of a DataLoader, where it shows."""
    if not isinstance(iterable, DataLoader) or iterable.batch_size is None:
        return None
    samples = length(iterable.sampler)
    return samples and (samples // iterable.batch_size * iterable.batch_size if iterable.drop_last else samples)


def generators(iterable: Any) -> dict[str, torch.Tensor]:
    """Return the states of the generators that belong to the loader, its sampler and its batch sampler."""
    return {name: generator.get_state() for name, generator in _own(iterable).items()}


def restore_generators(iterable: Any, states: dict[str, torch.Tensor]) -> None:
    """Put the loader's own generators back to the states that `generators` returned."""
    own = _own(iterable)
    if own.keys() != states.keys():
        raise ValueError(
            f"The loader had generators of its own as {_listed(states)} when its state was saved, and has them as "
            f"{_listed(own)} now; make it as it was made then."
        )
    for name, generator in own.items():
        generator.set_state(states[name])


def set_epoch(iterable: Any, number: int) -> None:
    """Tell the epoch to a sampler or dataset that asks for it, as PyTorch's DistributedSampler does."""
    for holder in {id(each): each for each in _holders(iterable).values()}.values():
        if callable(getattr(holder, "set_epoch", None)):
            holder.set_epoch(number)


def _own(iterable: Any) -> dict[str, torch.Generator]:
    """Return the generators by the name they have in the loader, each once."""
    found: dict[str, torch.Generator] = {}
    for name, holder in _holders(iterable).items():
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not other for other in found.values()):
            found[f"{name}.generator"] = generator
    return found


def _holders(iterable: Any) -> dict[str, Any]:
    sampler, batch_sampler = getattr(iterable, "sampler", None), getattr(iterable, "batch_sampler", None)
    inner, dataset = getattr(batch_sampler, "sampler", None), getattr(iterable, "dataset", None)
    return {
        "loader": iterable, "sampler": sampler, "batch_sampler": batch_sampler, "batch_sampler.sampler": inner,
        "dataset": dataset,
    }  # fmt: skip


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"
