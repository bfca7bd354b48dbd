"""A function in LLVM assembly with loops in it; several of them make a module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from steepest.kernels.assembly import Assembly


class Loop:
    """A loop that is being written. index: its counter. values: what it carries from one round to the next."""

    def __init__(self, index: str, values: Sequence[str]) -> None:
        self.index, self.values = index, tuple(values)
        self.carried = self.values

    def carry(self, values: Sequence[str]) -> None:
        """Give the next round these values; after the loop, `values` are the last that were given."""
        self.carried = tuple(values)


class Routine(Assembly):
    """Lines of a function without a result, whose parameters are (type, name) pairs: ("ptr", "%sheet")."""

    def __init__(self, name: str, *parameters: tuple[str, str], visible: bool = False) -> None:
        super().__init__("float")
        self._head = f"define {'' if visible else 'internal '}void @{name}({', '.join(map(' '.join, parameters))})"
        self._blocks = 0
        self._block = ""
        self.label("entry")

    def label(self, name: str) -> None:
        """Begin a block."""
        super().label(name)
        self._block = name

    def _name(self, kind: str) -> str:
        self._blocks += 1
        return f"{kind}{self._blocks}"

    @contextmanager
    def loop(self, start: str | int, stop: str | int, carried: Sequence[tuple[str, str]] = ()) -> Iterator[Loop]:
        """Write what is inside once for each index from start to before stop. carried: (type, first value) pairs."""
        head, body, last, done = (self._name(kind) for kind in ("head", "body", "last", "done"))
        before, index = self._block, f"%{head}.index"
        names = [f"%{head}.{place}" for place in range(len(carried))]
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"{index} = phi i64 [ {start}, %{before} ], [ {index}.next, %{last} ]")
        begins = len(self.lines)
        self.line(f"br i1 {self.new(f'icmp ult i64 {index}, {stop}')}, label %{body}, label %{done}")
        self.label(body)
        written = Loop(index, names)
        yield written
        self.line(f"br label %{last}")
        self.label(last)
        self.line(f"{index}.next = add i64 {index}, 1")
        self.line(f"br label %{head}")
        self.lines[begins:begins] = [
            f"  {name} = phi {kind} [ {first}, %{before} ], [ {following}, %{last} ]"
            for name, (kind, first), following in zip(names, carried, written.carried, strict=True)
        ]
        self.label(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Write what is inside for the case that the condition holds."""
        body, done = self._name("then"), self._name("done")
        self.line(f"br i1 {condition}, label %{body}, label %{done}")
        self.label(body)
        yield
        self.line(f"br label %{done}")
        self.label(done)

    def number_at(self, kind: str, base: str, place: str | int) -> str:
        """Read entry `place` of an array of `kind`."""
        return self.new(f"load {kind}, ptr {self.address(kind, base, place)}")

    def after(self, base: str, *parts: str | int) -> str:
        """Return the address so many bytes behind another."""
        return self.address("i8", base, *parts)

    def plus(self, a: str | int, b: str | int) -> str:
        """Return the sum of two integers."""
        return self.new(f"add i64 {a}, {b}")

    def minus(self, a: str | int, b: str | int) -> str:
        """Return the difference of two integers."""
        return self.new(f"sub i64 {a}, {b}")

    def times(self, a: str | int, b: str | int) -> str:
        """Return the product of two integers."""
        return self.new(f"mul i64 {a}, {b}")

    def least(self, a: str | int, b: str | int) -> str:
        """Return the smaller of two integers."""
        return self.new(f"select i1 {self.new(f'icmp slt i64 {a}, {b}')}, i64 {a}, i64 {b}")

    def first_lanes(self, count: str) -> str:
        """Return a mask of so many lanes, of all if there are more."""
        lanes = ", ".join(f"i64 {lane}" for lane in range(self.lanes))
        return self.new(f"icmp slt <{self.lanes} x i64> <{lanes}>, {self.splat('i64', count)}")

    def shuffled(self, kind: str, a: str, b: str, lanes: Sequence[int]) -> str:
        """Return lanes of two vectors, those of the second counted on from those of the first."""
        chosen = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.new(f"shufflevector {kind} {a}, {kind} {b}, <{len(lanes)} x i32> <{chosen}>")

    def transposed(self, vectors: Sequence[str], kind: str) -> list[str]:
        """Return n vectors of 16 lanes with the places of vectors and lanes exchanged, in each group of n lanes.

        By one bit of the places after the other: lanes with the bit change with vectors that have it.
        """
        result, step = list(vectors), len(vectors) // 2
        while step:
            for place in (place for place in range(len(result)) if not place & step):
                a, b = result[place], result[place + step]
                first = [lane - step + self.lanes if lane & step else lane for lane in range(self.lanes)]
                second = [lane + self.lanes if lane & step else lane + step for lane in range(self.lanes)]
                result[place], result[place + step] = (self.shuffled(kind, a, b, lanes) for lanes in (first, second))
            step //= 2
        return result

    def call(self, function: str, *arguments: tuple[str, str]) -> None:
        """Call another function of the module."""
        self.line(f"call void @{function}({', '.join(map(' '.join, arguments))})")

    def text(self) -> str:
        """Return the whole function."""
        return "\n".join([f"{self._head} {{", *self.lines, "  ret void", "}", ""])


def module(*routines: Routine) -> str:
    """Return the assembly of functions with all that they declare."""
    declarations = sorted(set().union(*(each.declarations for each in routines)))
    return "\n".join([*(each.text() for each in routines), *declarations, ""])
