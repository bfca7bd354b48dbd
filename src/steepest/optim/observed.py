"""What torch.optim.Optimizer does around a step, at less cost: a profiler is told of it only while there is one.

To tell that nobody listens costs 12 us for each step and each `zero_grad`, on a model of four tensors a tenth of them.
"""

import functools
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks as after_all, _global_optimizer_pre_hooks as before_all

is_watched: Callable[[], bool] = torch.autograd._profiler_enabled  # pyright: ignore[reportPrivateImportUsage]


def observed(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that calls the hooks before and after it, as torch's `profile_hook_step` does."""
    told = torch.optim.Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def wrapper(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if is_watched():
            return told(self, *arguments, **keywords)
        given: tuple[Any, ...] = (self, *arguments)
        for hook in chain(before_all.values(), self._optimizer_step_pre_hooks.values()):
            changed = hook(self, given, keywords)
            if changed is not None:
                given, keywords = _pair(hook, changed)
        result = step(*given, **keywords)
        self._optimizer_step_code()
        for hook in chain(self._optimizer_step_post_hooks.values(), after_all.values()):
            hook(self, given, keywords)
        return result

    return wrapper


def _pair(hook: Any, changed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(changed, tuple) and len(changed) == 2:
        return changed
    raise RuntimeError(f"the hook {hook} must return None or new (arguments, keywords), and returned {changed!r}")
