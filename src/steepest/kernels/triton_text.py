"""One stage of a program as Triton source: a kernel over all tensors at once, one program of the grid for each row.

The arithmetic is that of `assembly`, bit for bit: correctly rounded, no fused multiply-add (which the launch forbids),
scalars in double rounded once. Two loops do the same: one over whole blocks of rows whose addresses are all aligned,
with loads of 16 bytes, and one under a mask over whatever is left.
"""

from collections.abc import Mapping

from steepest.formula.symbol import BOOLEAN
from steepest.kernels.plan import Program, Stage
from steepest.kernels.stage import kept, temporary

ROW = 4096  # elements of one program of the grid; sums are added row by row
BLOCK = 1024  # elements at a time: eight for each thread
ALIGNMENT = 16  # bytes of the widest load

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_ROWS = 128  # sums of rows added at a time

_HEAD = """\
import triton
import triton.language as tl
"""

_STAGE = """

@triton.jit
def stage(row_tensor, row_start, pointers, sizes, constants, scalars, sums):
"""

_TOTALS = f"""

@triton.jit
def totals(sums, first_row, result):
    tensor = tl.program_id(0).to(tl.int64)
    first = tl.load(first_row + tensor)
    last = tl.load(first_row + tensor + 1)
    lanes = tl.arange(0, {_ROWS})
"""

_STOCHASTIC = '''

@triton.jit
def stochastic(x, place, seed):
    """Round to a neighbouring bfloat16, up with the probability that keeps the mean."""
    bits = x.to(tl.uint32, bitcast=True)
    noise = place ^ seed
    noise = (noise ^ (noise >> 16)) * 0x21F0AAAD
    noise = (noise ^ (noise >> 15)) * 0xD35A2D97
    noise = noise ^ (noise >> 15)
    raised = (bits + (noise >> 16)) & 0xFFFF0000
    finite = (bits & 0x7F800000) != 0x7F800000
    return tl.where(finite, raised, bits).to(tl.float32, bitcast=True)
'''

_OPERATIONS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "neg": "-{0}", "abs": "tl.abs({0})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "eq": "{0} == {1}", "ne": "{0} != {1}",
    "and": "{0} & {1}", "or": "{0} | {1}", "not": "~{0}", "where": "tl.where({0}, {1}, {2})", "spread": "{0}",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, tl.where({0} == 0, 0.0, {0})))",
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
}  # fmt: skip

# Plain / and tl.sqrt of float32 are approximations on a GPU, and so are exp and log: those two are computed in double.
_ROUNDED = {
    "float32": {
        "div": "tl.div_rn({0}, {1})", "sqrt": "tl.sqrt_rn({0})",
        "exp": "tl.exp({0}.to(tl.float64)).to(tl.float32)", "log": "tl.log({0}.to(tl.float64)).to(tl.float32)",
    },
    "float64": {"div": "{0} / {1}", "sqrt": "tl.sqrt({0})", "exp": "tl.exp({0})", "log": "tl.log({0})"},
}  # fmt: skip


def source(program: Program, stage: Stage, columns: Mapping[str, int], dtypes: Mapping[str, str]) -> str:
    """Return a module with the kernel `stage` and, if it sums, `totals`, which adds up the rows of each tensor.

    columns: place of each tensor in a row of the pointer table. dtypes: dtype in memory of each column. The arithmetic
    is in float64 if p is, else in float32.
    """
    return _Writer(program, stage, columns, dtypes).write()


def scalars(program: Program, stage: Stage) -> tuple[int, ...]:
    """Return the values that a stage reads as one number for each tensor: all but the constants."""
    return stage.scalars + tuple(i for i in stage.constants if program.nodes[i][0] != "constant")


class _Writer:
    def __init__(self, program: Program, stage: Stage, columns: Mapping[str, int], dtypes: Mapping[str, str]) -> None:
        self.program, self.stage, self.columns, self.dtypes = program, stage, columns, dtypes
        self.real = "float64" if dtypes["p"] == "float64" else "float32"
        self.lines: list[str] = []
        names = {*stage.loads, *map(temporary, stage.temporaries), *map(kept, stage.kept)}
        self.touched = sorted((names | {name for name, _ in stage.stores}), key=columns.__getitem__)

    def write(self) -> str:
        self._row()
        self._numbers()
        for place, index in enumerate(self.stage.reductions):
            self._line(f"sum{place} = tl.zeros([{BLOCK}], tl.{'int64' if self._is_largest(index) else 'float64'})")
        self._loop("0, whole", wide=True)
        self._loop("whole, length", wide=False)
        for place, index in enumerate(self.stage.reductions):
            self._line(f"tl.store(sums + row * {len(self.stage.reductions)} + {place}, {self._joined(place, index)})")
        body = "\n".join(self.lines)
        return "".join([_HEAD, _STOCHASTIC if "stochastic(" in body else "", _STAGE, body, "\n", self._totals()])

    def _line(self, text: str, depth: int = 1) -> None:
        self.lines.append("    " * depth + text)

    def _row(self) -> None:
        """Find the row's tensor, its addresses, and how much of it may be read in wide loads."""
        self._line("row = tl.program_id(0).to(tl.int64)")
        self._line("tensor = tl.load(row_tensor + row).to(tl.int64)")
        self._line(f"start = tl.multiple_of(tl.load(row_start + row), {ALIGNMENT})")
        self._line(f"length = tl.minimum(tl.load(sizes + tensor) - start, {ROW}).to(tl.int32)")
        self._line(f"lanes = tl.arange(0, {BLOCK})")
        for name in self.touched:
            at = f"tl.load(pointers + tensor * {len(self.columns)} + {self.columns[name]})"
            self._line(f"{self._at(name)} = {at} + start * {_BYTES[self.dtypes[name]]}  # {name}")
        if self.touched:
            self._line(f"aligned = (({' | '.join(map(self._at, self.touched))}) & {ALIGNMENT - 1}) == 0")
            self._line(f"whole = tl.where(aligned, length // {BLOCK} * {BLOCK}, 0)")
        else:
            self._line("whole = 0")

    def _at(self, name: str) -> str:
        return f"at{self.columns[name]}"

    def _numbers(self) -> None:
        """Read constants and scalars, each spread over a block: a division by a plain number would be approximate."""
        nodes, given = self.program.nodes, scalars(self.program, self.stage)
        for index in self.stage.constants:
            if nodes[index][0] == "constant":
                self._number(index, f"constants + {nodes[index][2]}")
        for place, index in enumerate(given):
            self._number(index, f"scalars + tensor * {len(given)} + {place}")

    def _number(self, index: int, address: str) -> None:
        change = " != 0" if self.program.nodes[index][0] in BOOLEAN else f".to(tl.{self.real})"
        self._line(f"x{index} = tl.broadcast_to(tl.load({address}){change}, [{BLOCK}])")

    def _loop(self, bounds: str, wide: bool) -> None:
        """Load, compute, add to the sums and store, a block at a time."""
        self._line(f"for i in range({bounds}, {BLOCK}):")
        self._line("at = i + lanes", 2)
        if not wide:
            self._line("mask = at < length", 2)
        mask = "" if wide else ", mask"
        nodes, stage = self.program.nodes, self.stage
        for index, node in enumerate(nodes):
            if node[0] == "input" and node[2] in stage.loads:
                self._load(index, node[2], wide)
        for index in stage.temporaries:
            self._load(index, temporary(index), wide)
        for index in stage.body:
            self._line(f"x{index} = {self._value(index)}", 2)
        for place, index in enumerate(stage.reductions):
            self._add(place, index, wide)
        for name, index in [(kept(index), index) for index in stage.kept] + list(stage.stores):
            self._line(f"tl.store({self._pointer(name, wide)} + at, {self._narrow(name, f'x{index}')}{mask})", 2)

    def _load(self, index: int, name: str, wide: bool) -> None:
        widened = "" if self.dtypes[name] == self.real else f".to(tl.{self.real})"
        self._line(f"x{index} = tl.load({self._pointer(name, wide)} + at{'' if wide else ', mask, 0.0'}){widened}", 2)

    def _pointer(self, name: str, wide: bool) -> str:
        pointer = f"{self._at(name)}.to(tl.pointer_type(tl.{self.dtypes[name]}))"
        return f"tl.multiple_of({pointer}, {ALIGNMENT})" if wide else pointer

    def _narrow(self, name: str, value: str) -> str:
        """Convert to the type in memory, rounding to nearest even; from double to bfloat16 by way of float32."""
        dtype = self.dtypes[name]
        if dtype == self.real:
            return value
        by_way = ".to(tl.float32)" if (self.real, dtype) == ("float64", "bfloat16") else ""
        return f"{value}{by_way}.to(tl.{dtype})"

    def _value(self, index: int) -> str:
        operation = self.program.nodes[index][0]
        operands = [f"x{a}" for a in self.program.arguments(index)]
        if operation == "nearest":  # the value that the parameter will have once it is stored
            narrow = self._narrow("p", operands[0])
            return narrow if self.dtypes["p"] == self.real else f"{narrow}.to(tl.{self.real})"
        if operation == "stochastic":
            return f"stochastic({operands[0]}, start.to(tl.uint32) + at.to(tl.uint32), {operands[1]}.to(tl.uint32))"
        if operation == "float":
            return f"{operands[0]}.to(tl.{self.real})"
        return (_OPERATIONS | _ROUNDED[self.real])[operation].format(*operands)

    def _is_largest(self, index: int) -> bool:
        return self.program.nodes[index][0] == "largest"

    def _add(self, place: int, index: int, wide: bool) -> None:
        """Add a block to a sum, lane by lane, in double precision.

        Absolute values compare as their bits do, and the bits of NaN are the largest: so NaN is not lost on the way.
        """
        operands = [f"x{a}.to(tl.float64)" for a in self.program.arguments(index)]
        if self._is_largest(index):
            value = f"tl.abs({operands[0]}).to(tl.int64, bitcast=True)"
        else:
            product = self.program.nodes[index][0] in ("square_total", "dot")
            value = f"{operands[0]} * {operands[-1]}" if product else operands[0]
        value = value if wide else f"tl.where(mask, {value}, {0 if self._is_largest(index) else 0.0})"
        self._line(f"sum{place} = {self._sum(f'sum{place}', value, index)}", 2)

    def _sum(self, total: str, value: str, index: int) -> str:
        return f"tl.maximum({total}, {value})" if self._is_largest(index) else f"{total} + {value}"

    def _joined(self, place: int, index: int) -> str:
        if self._is_largest(index):
            return f"tl.max(sum{place}, 0).to(tl.float64, bitcast=True)"
        return f"tl.sum(sum{place}, 0)"

    def _totals(self) -> str:
        """Print the kernel that adds up rows: one program for each tensor, in an order that never changes."""
        count = len(self.stage.reductions)
        if not count:
            return ""
        self.lines = []
        for place, index in enumerate(self.stage.reductions):
            self._line(f"sum{place} = tl.zeros([{_ROWS}], tl.{'int64' if self._is_largest(index) else 'float64'})")
        self._line(f"for row in range(first, last, {_ROWS}):")
        for place, index in enumerate(self.stage.reductions):
            at = f"(row + lanes) * {count} + {place}"
            value = f"tl.load(sums + {at}, row + lanes < last, 0.0)"
            if self._is_largest(index):
                value += ".to(tl.int64, bitcast=True)"
            self._line(f"sum{place} = {self._sum(f'sum{place}', value, index)}", 2)
        for place, index in enumerate(self.stage.reductions):
            self._line(f"tl.store(result + tensor * {count} + {place}, {self._joined(place, index)})")
        return _TOTALS + "\n".join(self.lines) + "\n"
