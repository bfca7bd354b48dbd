"""How the parameters of an optimizer are cut into batches, and the graph of each batch at a step."""

from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steepest.kernels.batch import Graph
from steepest.kernels.plan import Program
from steepest.kernels.support import unsupported
from steepest.optim.checks import check_stepped
from steepest.optim.graph import Edits, Traced, Traces
from steepest.optim.members import Kind, Members, Part, States, kind_of
from steepest.rule import Rule

_LOW = (torch.bfloat16, torch.float16)


class Order(NamedTuple):
    """What a group of parameters asks of a step. edits: for parameters of 24 bits."""

    group: dict[str, Any]
    rule: Rule
    edits: Edits
    hyper: dict[str, Any]

    def traced(self, traces: Traces, kind: Kind, steps: int) -> Traced:
        """Write down the next step of parameters that have made so many."""
        edits = self.edits._replace(low=True) if kind.form.dtype in _LOW else self.edits
        return traces.at(edits, steps + 1, self.hyper)


class Ready(NamedTuple):
    """A batch with all that one step of it takes."""

    members: Members
    traced: Traced
    graph: Graph
    gradients: list[Tensor]


class Cut:
    """The parameters that have a gradient, in batches that are stepped by one launch.

    A batch is of one group, and of one shape if its rule looks at matrices. But where a graph looks at elements alone,
    the batch is of all groups with that graph: they differ in numbers, and a kernel takes those for each tensor. The
    same goes for matrices of any shapes that are only made orthogonal.
    """

    def __init__(self, states: States, orders: list[Order]) -> None:
        self.states, self.rules = states, [order.rule for order in orders]
        self.parameters = [list(order.group["params"]) for order in orders]
        self.absent = [p for order in orders for p in order.group["params"] if p.grad is None]
        parts: dict[Any, list[Part]] = {}
        for place, order in enumerate(orders):
            for kind, parameters in self._kinds(order).items():
                traces = Traces(order.rule, kind.form.matrix if order.rule.matrix else None)
                program = order.traced(traces, kind, kind.steps).program
                common, company = kind, place
                if _joins(kind, program):
                    common, company = kind._replace(form=kind.form._replace(matrix=None)), program
                key = (common, order.rule, order.group["state_dtype"], company)
                parts.setdefault(key, []).append(Part(place, traces, parameters))
        self.batches = [Members(kind, each, states, rule) for (kind, rule, *_), each in parts.items()]
        self.changes = states.changes

    def _kinds(self, order: Order) -> dict[Kind, list[Tensor]]:
        kinds: dict[Kind, list[Tensor]] = {}
        for p in order.group["params"]:
            if p.grad is not None:
                check_stepped(p)
                kind = kind_of(p, order.rule, self.states[p], order.group["blocks"], not unsupported(p))
                kinds.setdefault(kind, []).append(p)
        return kinds

    def fits(self, states: States, orders: list[Order]) -> bool:
        """Whether these are still the parameters and their states, and none that had no gradient has one now."""
        if states is not self.states or states.changes != self.changes or len(orders) != len(self.rules):
            return False
        for order, rule, known in zip(orders, self.rules, self.parameters, strict=True):
            now = order.group["params"]
            if order.rule is not rule or len(now) != len(known) or not all(map(is_, now, known)):
                return False
        return all(p.grad is None for p in self.absent)

    def ready(self, orders: list[Order]) -> list[Ready] | None:
        """Return all batches with their gradients and graphs; None where they have to be cut anew."""
        found = []
        for members in self.batches:
            gradients = members.gradients()
            if gradients is None:
                return None
            kind, steps = members.kind, members.steps
            first, *others = [orders[part.place].traced(part.traces, kind, steps) for part in members.parts]
            constants = first.constants
            if others:
                if any(other.program is not first.program for other in others):
                    return None
                constants = [constants, *(other.constants for other in others)]
            members.provide(first.stored, orders[members.parts[0].place].group["state_dtype"])
            found.append(Ready(members, first, Graph(first.program, constants, members.rule.name), gradients))
        return found


def _joins(kind: Kind, program: Program) -> bool:
    return kind.kernel and kind.form.device == "cpu" and program.takes_any_company
