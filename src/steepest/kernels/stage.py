"""One stage of a program as a function in LLVM assembly: the frame around the elements.

The function takes one pointer to its *order sheet*, an array of 64-bit words (`SHEET`). All threads run it at once;
each takes the next row from a shared counter until none is left. A row is up to `ROW` elements of one tensor.
"""

from collections.abc import Mapping

from steepest.formula.symbol import BOOLEAN
from steepest.kernels.assembly import Assembly, memory
from steepest.kernels.plan import Program, Stage

ROW = 16384  # elements. Part of the numerics: sums are added row by row. 1k to 1M were measured equally fast
SHEET = ("rows", "row_tensor", "row_start", "pointers", "sizes", "constants", "lines", "scalars", "sums")
FIRST_WORD = 8  # word 0 is the counter, alone on its cache line


def assemble(
    program: Program, stage: Stage, columns: Mapping[str, int], dtypes: Mapping[str, str], each: bool = False
) -> str:
    """Return the assembly of `void stage(ptr sheet)`.

    columns: place of each tensor in a row of the pointer table ("p", "g", states, "temporary 7", "kept 3").
    dtypes: dtype in memory of each column. The arithmetic is in float64 if p is, else in float32.
    each: there are several lines of constants, and every tensor says which is its own.
    """
    return _Writer(program, stage, columns, dtypes, each).write()


def temporary(index: int) -> str:
    """Name the column of a value that a matrix function computed."""
    return f"temporary {index}"


def kept(index: int) -> str:
    """Name the column of a value that is stored for a matrix function."""
    return f"kept {index}"


class _Writer:
    def __init__(
        self, program: Program, stage: Stage, columns: Mapping[str, int], dtypes: Mapping[str, str], each: bool
    ) -> None:
        self.program, self.stage, self.columns, self.dtypes, self.each = program, stage, columns, dtypes, each
        self.out = Assembly("double" if dtypes["p"] == "float64" else "float")
        self.values: dict[int, str] = {}
        self.at: dict[str, str] = {}
        self.sums = [f"%sum{place}" for place in range(len(stage.reductions))]
        self.wide = f"<{self.out.lanes} x double>"

    def write(self) -> str:
        self._entry()
        self._row()
        self._loop()
        self._end_of_row()
        body = "\n".join(self.out.lines)
        return f"define void @stage(ptr %sheet) {{\n{body}\n}}\n" + "\n".join(sorted(self.out.declarations)) + "\n"

    def _entry(self) -> None:
        out = self.out
        out.label("entry")
        for word, name in enumerate(SHEET, FIRST_WORD):
            out.line(f"%{name} = load {'i64' if name == 'rows' else 'ptr'}, ptr {out.address('i64', '%sheet', word)}")
        if not self.each:
            self._constants("0")
        out.line("br label %next")

    def _constants(self, line: str) -> None:
        for place, index in enumerate(self.stage.constants):
            self.values[index] = self._scalar(index, "%constants", line, place)

    def _row(self) -> None:
        """Take the next row and find its tensor, its addresses and its scalars."""
        out = self.out
        out.label("next")
        out.line("%r = atomicrmw add ptr %sheet, i64 1 monotonic")
        out.line(f"br i1 {out.new('icmp uge i64 %r, %rows')}, label %exit, label %row")
        out.label("row")
        tensor = out.new(f"load i32, ptr {out.address('i32', '%row_tensor', '%r')}")
        out.line(f"%tensor = zext i32 {tensor} to i64")
        out.line(f"%start = load i64, ptr {out.address('i64', '%row_start', '%r')}")
        size = out.new(f"load i64, ptr {out.address('i64', '%sizes', '%tensor')}")
        left = out.new(f"sub i64 {size}, %start")
        short = out.new(f"icmp slt i64 {left}, {ROW}")
        out.line(f"%length = select i1 {short}, i64 {left}, i64 {ROW}")
        out.line(f"%full = and i64 %length, {-out.lanes}")
        first = out.new(f"mul i64 %tensor, {len(self.columns)}")
        for name in self._touched():
            base = out.new(f"load ptr, ptr {out.address('ptr', '%pointers', first, self.columns[name])}")
            self.at[name] = out.address(memory(self.dtypes[name]), base, "%start")
        if self.each:
            line = out.new(f"load i64, ptr {out.address('i64', '%lines', '%tensor')}")
            self._constants(out.new(f"mul i64 {line}, {len(self.stage.constants)}"))
        offset = out.new(f"mul i64 %tensor, {len(self.stage.scalars)}")
        for place, index in enumerate(self.stage.scalars):
            self.values[index] = self._scalar(index, "%scalars", offset, place)
        out.line("br label %head")

    def _scalar(self, index: int, base: str, *offsets: str | int) -> str:
        """Read a number that all elements share; a truth value comes as 0 or 1."""
        value = self.out.scalar_from(self.out.address("double", base, *offsets))
        if self.program.nodes[index][0] in BOOLEAN:
            return self.out.operation("ne", value, "zeroinitializer")
        return value

    def _touched(self) -> list[str]:
        stage = self.stage
        names = {*stage.loads, *map(temporary, stage.temporaries), *map(kept, stage.kept)}
        return sorted(names | {name for name, _ in stage.stores})

    def _loop(self) -> None:
        """Run over the full vectors of the row, then over the rest of it under a mask."""
        out = self.out
        out.label("head")
        out.line("%i = phi i64 [ 0, %row ], [ %i.next, %body ]")
        for name in self.sums:
            out.line(f"{name} = phi {self.wide} [ zeroinitializer, %row ], [ {name}.body, %body ]")
        out.line(f"br i1 {out.new('icmp slt i64 %i, %full')}, label %body, label %rest")
        out.label("body")
        self._elements("%i", "", "body")
        out.line(f"%i.next = add i64 %i, {out.lanes}")
        out.line("br label %head")
        out.label("rest")
        out.line(f"br i1 {out.new('icmp slt i64 %full, %length')}, label %tail, label %done")
        out.label("tail")
        count = out.splat("i32", out.new(f"trunc i64 {out.new('sub i64 %length, %full')} to i32"))
        lanes = out.integers(list(range(out.lanes)))
        self._elements("%full", out.new(f"icmp slt <{out.lanes} x i32> {lanes}, {count}"), "tail")
        out.line("br label %done")

    def _elements(self, offset: str, mask: str, block: str) -> None:
        """Load, compute, add to the sums and store one vector."""
        out, nodes = self.out, self.program.nodes
        values = dict(self.values)
        at = {name: out.address(memory(self.dtypes[name]), base, offset) for name, base in self.at.items()}
        loaded = {name: out.load(self.dtypes[name], at[name], mask) for name in self.stage.loads}
        for index, node in enumerate(nodes):
            if node[0] == "input" and node[2] in loaded:
                values[index] = loaded[node[2]]
        for index in self.stage.temporaries:
            values[index] = out.load(self.dtypes[temporary(index)], at[temporary(index)], mask)
        for index in self.stage.body:
            values[index] = self._value(index, values, offset)
        for name, index in zip(self.sums, self.stage.reductions, strict=True):
            self._add(name, block, nodes[index][0], [values[a] for a in self.program.arguments(index)], mask)
        for index in self.stage.kept:
            out.store(self.dtypes[kept(index)], values[index], at[kept(index)], mask)
        for name, index in self.stage.stores:
            out.store(self.dtypes[name], values[index], at[name], mask)

    def _value(self, index: int, values: dict[int, str], offset: str) -> str:
        out = self.out
        operation = self.program.nodes[index][0]
        operands = [values[a] for a in self.program.arguments(index)]
        if operation == "nearest":  # the value that the parameter will have once it is stored
            return out.widen(self.dtypes["p"], out.narrow(self.dtypes["p"], operands[0]))
        if operation == "stochastic":
            return out.stochastic_bfloat16(operands[0], self._position(offset), self._bits(operands[1]))
        return out.operation(operation, *operands)

    def _position(self, offset: str) -> str:
        """Return the place of each element in its tensor, modulo 2^32."""
        out = self.out
        place = out.new(f"trunc i64 {out.new(f'add i64 %start, {offset}')} to i32")
        lanes = out.integers(list(range(out.lanes)))
        return out.new(f"add <{out.lanes} x i32> {out.splat('i32', place)}, {lanes}")

    def _bits(self, number: str) -> str:
        """Return a seed below 2^24 as integers."""
        return self.out.new(f"fptoui {self.out.vector} {number} to <{self.out.lanes} x i32>")

    def _add(self, name: str, block: str, operation: str, operands: list[str], mask: str) -> None:
        """Add a vector to a sum, in double precision."""
        out = self.out
        wide = [self._double(operand) for operand in operands]
        if mask:  # what lies behind the end may have become anything, also infinite
            wide = [out.new(f"select {out.mask} {mask}, {self.wide} {x}, {self.wide} zeroinitializer") for x in wide]
        if operation == "largest":
            intrinsic = f"llvm.maximum.v{out.lanes}f64"
            out.intrinsic(intrinsic, self.wide, (self.wide, name), (self.wide, wide[0]), name=f"{name}.{block}")
        elif operation == "total":
            out.line(f"{name}.{block} = fadd {self.wide} {name}, {wide[0]}")
        elif out.scalar == "float":
            # A product of two floats is exact in double, so fusing it with the addition changes nothing but the time.
            factors = ((self.wide, value) for value in (wide[0], wide[-1], name))
            out.intrinsic(f"llvm.fma.v{out.lanes}f64", self.wide, *factors, name=f"{name}.{block}")
        else:
            product = out.new(f"fmul {self.wide} {wide[0]}, {wide[-1]}")
            out.line(f"{name}.{block} = fadd {self.wide} {name}, {product}")

    def _double(self, value: str) -> str:
        if self.out.scalar == "double":
            return value
        return self.out.new(f"fpext {self.out.vector} {value} to {self.wide}")

    def _end_of_row(self) -> None:
        """Add up the lanes, in order, and leave the row's sums."""
        out = self.out
        out.label("done")
        totals = [out.new(f"phi {self.wide} [ {name}, %rest ], [ {name}.tail, %tail ]") for name in self.sums]
        offset = out.new(f"mul i64 %r, {len(totals)}")
        for place, (total, index) in enumerate(zip(totals, self.stage.reductions, strict=True)):
            if self.program.nodes[index][0] == "largest":
                name = f"llvm.vector.reduce.fmaximum.v{out.lanes}f64"
                value = out.intrinsic(name, "double", (self.wide, total))
            else:
                name = f"llvm.vector.reduce.fadd.v{out.lanes}f64"
                value = out.intrinsic(name, "double", ("double", "0.0"), (self.wide, total))
            out.line(f"store double {value}, ptr {out.address('double', '%sums', offset, place)}")
        out.line("br label %next")
        out.label("exit")
        out.line("ret void")
