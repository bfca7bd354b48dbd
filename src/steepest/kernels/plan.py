"""From a tape to a program: which values are computed when, and by whom.

A *stage* is one pass of the fused kernel over the elements. Whole-tensor functions cut a formula into stages: a norm is
known only after a pass that adds it up. Every stage but the last only reads, so nothing is overwritten while it is
still needed; the last one writes the parameter and all states. Between stages, scalars (one for each tensor) and matrix
functions are worked out by `kernels.interpret`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from steepest.formula.symbol import CONSTANT, ELEMENT, MATRIX, REDUCTIONS, SCALAR, SHARED, Symbol, Tape

LEAVES = frozenset({"input", "constant", "size", "epsilon"})
_SINGLE = frozenset({CONSTANT, SHARED, SCALAR})


@dataclass(frozen=True)
class Stage:
    """One pass over the elements.

    loads: inputs read. temporaries: values of matrix functions read. scalars: one-for-each-tensor values needed.
    reductions: sums computed. kept: values stored for matrix functions. stores: (name of the tensor, value).
    """

    loads: tuple[str, ...]
    temporaries: tuple[int, ...]
    scalars: tuple[int, ...]
    constants: tuple[int, ...]
    body: tuple[int, ...]
    reductions: tuple[int, ...]
    kept: tuple[int, ...]
    stores: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Program:
    """A graph without repetitions, and its stages. Hashable by `key`; constants are not part of it."""

    nodes: tuple[tuple, ...]
    outputs: tuple[tuple[str, int], ...]
    stages: tuple[Stage, ...] = ()
    fused: frozenset[int] = field(default=frozenset(), repr=False)
    shared: tuple[tuple[int, int], ...] = ()  # (a sum over all tensors, the stage before which it is needed)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.nodes, self.outputs))

    def arguments(self, index: int) -> tuple[int, ...]:
        """Return the values that a value is computed from."""
        return arguments(self.nodes[index])

    @cached_property
    def slots(self) -> tuple[tuple[int, ...] | None, ...]:
        """For each stage the places of its constants among those of the tape; None where some are computed."""
        return tuple(
            tuple(self.nodes[i][2] for i in stage.constants)
            if all(self.nodes[i][0] == "constant" for i in stage.constants)
            else None
            for stage in self.stages
        )

    @cached_property
    def read_between(self) -> tuple[int, ...]:
        """Inputs that are read between stages, by what is no kernel."""
        read = {a for index, node in enumerate(self.nodes) if index not in self.fused for a in arguments(node)}
        return tuple(sorted(a for a in read if self.nodes[a][0] == "input"))

    @cached_property
    def only_added(self) -> frozenset[int]:
        """Sums over each tensor of which only the sum over all tensors is wanted."""
        readers = [(a, node[0] == "everywhere") for node in self.nodes for a in arguments(node)]
        others = {a for a, adds in readers if not adds} | {index for _, index in self.outputs}
        return frozenset(a for a, adds in readers if adds) - others

    @cached_property
    def unread(self) -> frozenset[int]:
        """Values from which nothing else is computed."""
        return frozenset(range(len(self.nodes))) - {a for node in self.nodes for a in arguments(node)}

    @cached_property
    def handed_over(self) -> frozenset[int]:
        """Values that the kernel stores for one matrix function alone, which may write over them."""
        outside = [a for index, node in enumerate(self.nodes) if index not in self.fused for a in arguments(node)]
        kept = {index for stage in self.stages for index in stage.kept}
        return frozenset(index for index in kept if outside.count(index) == 1)

    @cached_property
    def between(self) -> tuple[int, ...]:
        """What is computed outside of kernels and wanted there: not the sums that are only looked at."""
        outside = (i for i, node in enumerate(self.nodes) if i not in self.fused and node[0] not in LEAVES)
        return tuple(i for i in outside if self.nodes[i][0] != "everywhere" or i not in self.unread)

    @cached_property
    def takes_any_company(self) -> bool:
        """Whether each tensor may have constants and a shape of its own.

        Nothing but the kernel looks at them, or all that is done to matrices is to make them orthogonal.
        """
        between = [self.nodes[i] for i in self.between]
        constants = [self.nodes[a][0] for node in between for a in arguments(node)[1:]]
        orthogonal = all(node[0] == "orthogonalize" and node[2] in self.handed_over for node in between)
        elements = set(self.states.values()) <= {ELEMENT, SHARED}
        return orthogonal and elements and set(constants) <= {"constant"} and None not in self.slots

    @cached_property
    def small(self) -> tuple[tuple[str, int], ...]:
        """Outputs that the kernel does not store."""
        return tuple((name, index) for name, index in self.outputs if self.nodes[index][1] != ELEMENT)

    @cached_property
    def states(self) -> dict[str, str]:
        """Name and shape of each tensor that is read or written, besides p and g."""
        written = {name: self.nodes[index][1] for name, index in self.outputs}
        read = {node[2]: node[1] for node in self.nodes if node[0] == "input"}
        return {name: shape for name, shape in {**written, **read}.items() if name not in ("p", "g")}


def arguments(node: tuple) -> tuple[int, ...]:
    """Return the arguments of a node that are nodes: those that are integers."""
    return () if node[0] in LEAVES else tuple(a for a in node[2:] if type(a) is int)


def plan(tape: Tape, outputs: Mapping[str, Symbol]) -> Program:
    """Cut a traced formula into stages. outputs: name of each tensor to write -> its new value.

    An output that is its own input is dropped: a state that a rule hands back untouched is never stored.
    """
    nodes, renamed = _without_repetition(tape.nodes, outputs)
    written = tuple(
        (name, renamed[symbol.index])
        for name, symbol in outputs.items()
        if tape.nodes[symbol.index] != ("input", symbol.letters, name)
    )
    nodes, written = _reachable(nodes, written)
    fused = _fused(nodes)
    level = _levels(nodes, fused)
    last = _last(nodes, fused, level, written)
    stages = tuple(_stage(nodes, fused, level, k, written if k == last else ()) for k in range(last + 1))
    shared = tuple((i, level[i]) for i, node in enumerate(nodes) if node[0] == "everywhere")
    return Program(nodes, written, stages, fused, shared)


def _without_repetition(nodes: list[tuple], outputs: Mapping[str, Symbol]) -> tuple[list[tuple], dict[int, int]]:
    """Give equal expressions one node (a constant is equal to nothing but itself)."""
    kept: list[tuple] = []
    place: dict[tuple, int] = {}
    renamed: dict[int, int] = {}
    for index, node in enumerate(nodes):
        new = node
        if node[0] not in LEAVES:
            new = (*node[:2], *(renamed[a] if type(a) is int else a for a in node[2:]))
        if new not in place:
            place[new] = len(kept)
            kept.append(new)
        renamed[index] = place[new]
    return kept, renamed


def _reachable(nodes: list[tuple], outputs: tuple[tuple[str, int], ...]) -> tuple[tuple, tuple]:
    """Drop what no output needs."""
    needed = _ancestors(nodes, [index for _, index in outputs])
    order = sorted(needed)
    renamed = {old: new for new, old in enumerate(order)}
    kept = tuple(
        node if node[0] in LEAVES else (*node[:2], *(renamed[a] if type(a) is int else a for a in node[2:]))
        for node in (nodes[old] for old in order)
    )
    return kept, tuple((name, renamed[index]) for name, index in outputs)


def _ancestors(nodes: list[tuple] | tuple[tuple, ...], roots: list[int]) -> set[int]:
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            todo.extend(arguments(nodes[index]))
    return seen


def _fused(nodes: tuple[tuple, ...]) -> frozenset[int]:
    """Return the values that the kernel computes: elementwise ones, and sums over elements."""
    elementwise = {ELEMENT, *_SINGLE}

    def is_fused(node: tuple) -> bool:
        operation, shape = node[:2]
        if operation in LEAVES or operation in MATRIX or not (shape == ELEMENT or operation in REDUCTIONS):
            return False
        return all(nodes[a][1] in elementwise for a in arguments(node))

    return frozenset(index for index, node in enumerate(nodes) if is_fused(node))


def _levels(nodes: tuple[tuple, ...], fused: frozenset[int]) -> list[int]:
    """Return the first stage before which (for kernel values: in which) each value is known."""
    level: list[int] = []
    for index, node in enumerate(nodes):
        operation = node[0]
        ready = 0
        for a in arguments(node):
            from_kernel = a in fused and nodes[a][0] not in REDUCTIONS
            ready = max(ready, level[a] + (from_kernel and index not in fused))
        level.append(ready + (index in fused and operation in REDUCTIONS))
    return level


def _last(nodes: tuple[tuple, ...], fused: frozenset[int], level: list[int], outputs: tuple) -> int:
    """Return the stage that writes: elements are known, and whatever is summed or kept has been read by then.

    Known are also the sums over all rules, which have a label: somebody may look at them and leave the step.
    """
    written = [level[index] for _, index in outputs if nodes[index][1] == ELEMENT]
    written += [level[index] for index, node in enumerate(nodes) if node[0] == "everywhere" and node[3]]
    summed = [level[index] - 1 for index in fused if nodes[index][0] in REDUCTIONS]
    return max([*written, *summed, *(level[index] for index in _kept(nodes, fused))], default=0)


def _kept(nodes: tuple[tuple, ...], fused: frozenset[int]) -> set[int]:
    """Return the elements that the kernel must store because a matrix function reads them."""
    read = {a for index, node in enumerate(nodes) if index not in fused for a in arguments(node)}
    return {index for index in read & fused if nodes[index][0] not in REDUCTIONS}


def _stage(
    nodes: tuple[tuple, ...], fused: frozenset[int], level: list[int], k: int, stores: tuple[tuple[str, int], ...]
) -> Stage:
    reductions = tuple(i for i in sorted(fused) if nodes[i][0] in REDUCTIONS and level[i] == k + 1)
    kept = tuple(i for i in sorted(_kept(nodes, fused)) if level[i] == k)
    stores = tuple((name, i) for name, i in stores if nodes[i][1] == ELEMENT)
    roots = [*(a for i in reductions for a in arguments(nodes[i])), *kept, *(i for _, i in stores)]
    body, outside = _computed(nodes, fused, roots)
    inputs = {i for i in outside if nodes[i][0] == "input" and nodes[i][1] == ELEMENT}
    return Stage(
        loads=tuple(sorted(nodes[i][2] for i in inputs)),
        temporaries=tuple(sorted(i for i in outside - inputs if nodes[i][1] == ELEMENT)),
        scalars=tuple(sorted(i for i in outside if nodes[i][1] == SCALAR)),
        constants=tuple(sorted(i for i in outside if nodes[i][1] in (CONSTANT, SHARED))),
        body=tuple(sorted(body)),
        reductions=reductions,
        kept=kept,
        stores=stores,
    )


def _computed(nodes: tuple[tuple, ...], fused: frozenset[int], roots: list[int]) -> tuple[set[int], set[int]]:
    """Return what one pass computes for these values, and what it must be given."""
    body: set[int] = set()
    outside: set[int] = set()
    todo = list(roots)
    while todo:
        index = todo.pop()
        if index not in fused or nodes[index][0] in REDUCTIONS:
            outside.add(index)
        elif index not in body:
            body.add(index)
            todo.extend(arguments(nodes[index]))
    return body, outside
