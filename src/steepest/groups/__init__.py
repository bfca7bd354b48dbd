"""Which parameter gets which rule, learning rate and weight decay."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from steepest.groups.depth import factors
from steepest.groups.overrides import changes, check_amount
from steepest.groups.parameters import Found, parameters, undecayed
from steepest.groups.role import Role, heads, role, stack_shape
from steepest.groups.table import Assignment, Groups
from steepest.rule import Rule
from steepest.rules import RULES, find

__all__ = ["Assignment", "Groups", "groups", "stack_shape"]


def groups(  # noqa: PLR0913  the options of a public entry point
    model: nn.Module | Iterable[tuple[str, Tensor]],
    matrix: str | Rule = "muon",
    other: str | Rule = "adamw",
    *,
    lr: Any = None,
    weight_decay: float = 0.01,
    layer_decay: float | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Groups:
    """Sort the parameters of a model into groups: hidden matrices for one rule, everything else for the other.

    Hidden matrices are the weights of linear, convolutional, recurrent and attention layers, the first one included.
    Left for `other` are embeddings, free parameters (positions, tokens), the output head (the last linear or
    convolutional layer, unless it is one of several equal blocks), norms, biases, and weights of one row or column.

    Weights decay. Vectors, norms and free parameters do not, for a gain near 0 is no simpler than one near 1; nor do
    embeddings, whose unused rows would shrink with no gradient to hold them; nor what the model's own
    `no_weight_decay()` names.

    A weight in which several matrices are piled up is stepped matrix by matrix: fused q, k, v; the gates of recurrent
    layers; grouped convolutions; experts of shape (experts, m, n). Its group says `blocks`, see `stack_shape`.
    Muon's steps are scaled like AdamW's ("match_rms_adamw"), so that one learning rate serves both rules.

    model: a module, in wrappers (torch.compile, DDP, FSDP) or not; or its named parameters: then by shape and name.
    lr: of all groups, a number or a schedule; without it the optimizer's own. layer_decay: block i of n learns with
    lr * layer_decay^(n + 1 - i), what comes before the blocks ^(n + 1), what comes after them with lr; it is part of
    each group's lr, so every scheduler keeps it. overrides: options by pattern of the name, later patterns winning:
    {"*.wq.weight": {"rule": "adamw"}, "blocks.0.*": {"lr_factor": 0.1}, "*.gate_up.weight": {"blocks": 2}}.
    Raises ValueError for unknown rules, patterns that fit no parameter, and parameters that have no shape yet.

    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> print(groups(net))
    parameter  shape    numbers  rule   lr factor  weight decay  why
    0.weight   16 x 8       128  muon           1          0.01  hidden weight
    0.bias     16            16  adamw          1             0  vector
    2.weight   16 x 16      256  muon           1          0.01  hidden weight
    2.bias     16            16  adamw          1             0  vector
    4.weight   2 x 16        32  adamw          1          0.01  output head
    4.bias     2              2  adamw          1             0  vector
    muon: 2 tensors, 384 numbers; adamw: 4 tensors, 66 numbers
    """
    check_amount("weight_decay", weight_decay)
    model = list(model) if isinstance(model, Iterator) else model
    found = parameters(model)
    tensors = {this.name: this.tensor for this in found}
    outputs, exempt, depth = heads(model, found), undecayed(model), factors(model, found, layer_decay)
    changed = changes(tensors, overrides or {})
    collected: list[tuple[dict[str, Any], dict[str, Any]]] = []
    assignments = []
    for this in found:
        what = role(this, this.name in outputs, tensors)
        options = {
            "rule": matrix if what.blocks else other,
            "weight_decay": weight_decay if what.decays and this.name not in exempt else 0.0,
            "blocks": what.blocks,
            "lr_factor": depth.get(this.name, 1.0),
            **changed[this.name],
        }
        assignments.append(_assignment(this, what, options, changed[this.name]))
        if this.tensor.requires_grad:
            group = _group(collected, _settled(this, options, lr))
            group["params"].append(this.tensor)
            group["param_names"].append(this.name)
    return Groups((group for _, group in collected), assignments)


def _assignment(this: Found, what: Role, options: Mapping[str, Any], change: Mapping[str, Any]) -> Assignment:
    rule = find(options["rule"]).name if this.tensor.requires_grad else "frozen"
    why = what.why + ("; override" if change else "")
    factor = 1.0 if "lr" in change else options["lr_factor"]
    return Assignment(this.name, tuple(this.tensor.shape), rule, factor, options["weight_decay"], why)


def _settled(this: Found, options: dict[str, Any], lr: Any) -> dict[str, Any]:
    """Return the options of a parameter's group: what its rule does not know left out, what follows filled in."""
    factor, blocks, rule = options.pop("lr_factor"), options.pop("blocks"), find(options["rule"])
    if "lr" not in options and (lr is not None or factor != 1):
        if lr is None:
            raise ValueError(
                f"{this.name} is to learn with {factor:g} times the learning rate, so groups must know it: lr="
            )
        options["lr"] = lr if factor == 1 else lr * factor
    if RULES.get(rule.name) is rule:
        options["rule"] = rule.name  # a name can be saved and loaded, a function cannot
    if rule.matrix and blocks > 1:
        options["blocks"] = stack_shape(this.tensor.shape, blocks)[0]
    if "adjust_lr_fn" in rule.options:
        options.setdefault("adjust_lr_fn", "match_rms_adamw")
    return options


def _group(collected: list[tuple[dict[str, Any], dict[str, Any]]], options: dict[str, Any]) -> dict[str, Any]:
    """Return the group with these options, a new one if there is none."""
    for known, group in collected:
        if known == options:
            return group
    collected.append((options, {"params": [], "param_names": [], **options}))
    return collected[-1][1]
