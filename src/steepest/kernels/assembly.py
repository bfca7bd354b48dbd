"""Elementwise operations as LLVM assembly: explicit vectors, correctly rounded, no fused multiply-add, no fast-math."""

from collections.abc import Callable

_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARISON = {"lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
_FUNCTION = {"sqrt": "sqrt", "abs": "fabs", "exp": "exp", "log": "log"}
_LETTERS = {"float": "f32", "double": "f64"}


class Assembly:
    """Lines of one function that computes on vectors of `lanes` numbers of type `scalar` ("float" or "double")."""

    def __init__(self, scalar: str) -> None:
        self.scalar = scalar
        self.lanes = 8 if scalar == "double" else 16
        self.vector = f"<{self.lanes} x {scalar}>"
        self.mask = f"<{self.lanes} x i1>"
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self._count = 0

    def line(self, text: str) -> None:
        """Append an instruction."""
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")

    def new(self, expression: str, name: str = "") -> str:
        """Append an instruction and return the name of its result."""
        self._count += 1
        name = name or f"%x{self._count}"
        self.line(f"{name} = {expression}")
        return name

    def address(self, kind: str, base: str, *offsets: str | int) -> str:
        """Return the address `base[sum of offsets]` in an array of `kind`."""
        for offset in offsets:
            base = self.new(f"getelementptr {kind}, ptr {base}, i64 {offset}")
        return base

    def intrinsic(self, function: str, result: str, *operands: tuple[str, str], name: str = "") -> str:
        """Call an intrinsic on (type, value) operands; the result gets the name, or a new one."""
        self.declarations.add(f"declare {result} @{function}({', '.join(kind for kind, _ in operands)})")
        return self.new(f"call {result} @{function}({', '.join(f'{kind} {value}' for kind, value in operands)})", name)

    def splat(self, kind: str, value: str) -> str:
        """Return a vector with the value in every lane."""
        one = self.new(f"insertelement <{self.lanes} x {kind}> poison, {kind} {value}, i32 0")
        return self.new(
            f"shufflevector <{self.lanes} x {kind}> {one}, <{self.lanes} x {kind}> poison, "
            f"<{self.lanes} x i32> zeroinitializer"
        )

    def integers(self, values: list[int] | int) -> str:
        """Return a literal vector of 32-bit integers."""
        values = [values] * self.lanes if isinstance(values, int) else values
        return f"<{', '.join(f'i32 {value}' for value in values)}>"

    def number(self, value: float) -> str:
        """Return a literal vector of one number (one that is exact in float32)."""
        return f"<{', '.join([f'{self.scalar} {value:e}'] * self.lanes)}>"

    def scalar_from(self, address: str) -> str:
        """Read a double, round it once to the type computed in, and spread it."""
        value = self.new(f"load double, ptr {address}")
        if self.scalar == "float":
            value = self.new(f"fptrunc double {value} to float")
        return self.splat(self.scalar, value)

    def load(self, dtype: str, address: str, mask: str = "") -> str:
        """Read a vector from memory as the type computed in."""
        kind = memory(dtype)
        stored = f"<{self.lanes} x {kind}>"
        if mask:
            name = f"llvm.masked.load.v{self.lanes}{_suffix(kind)}.p0"
            zeros = (stored, "zeroinitializer")
            self.declarations.add(f"declare {stored} @{name}(ptr, i32, {self.mask}, {stored})")
            value = self.new(
                f"call {stored} @{name}(ptr {address}, i32 {_bytes(kind)}, {self.mask} {mask}, {' '.join(zeros)})"
            )
        else:
            value = self.new(f"load {stored}, ptr {address}, align {_bytes(kind)}")
        return self.widen(dtype, value)

    def widen(self, dtype: str, value: str) -> str:
        """Convert a vector from the type in memory to the type computed in."""
        kind = memory(dtype)
        if kind == self.scalar:
            return value
        if dtype == "bfloat16":
            wide = self.new(f"zext <{self.lanes} x i16> {value} to <{self.lanes} x i32>")
            wide = self.new(f"shl <{self.lanes} x i32> {wide}, {self.integers(16)}")
            value, kind = self.new(f"bitcast <{self.lanes} x i32> {wide} to <{self.lanes} x float>"), "float"
        elif dtype == "float16":
            value, kind = self.new(f"fpext <{self.lanes} x half> {value} to <{self.lanes} x float>"), "float"
        if kind == self.scalar:
            return value
        change = "fptrunc" if kind == "double" else "fpext"
        return self.new(f"{change} <{self.lanes} x {kind}> {value} to {self.vector}")

    def narrow(self, dtype: str, value: str) -> str:
        """Convert a vector to the type in memory, rounding to nearest even."""
        kind = memory(dtype)
        if kind == self.scalar:
            return value
        if dtype == "float16" and self.scalar == "double":
            return self.new(f"fptrunc <{self.lanes} x float> {self._odd_float(value)} to <{self.lanes} x half>")
        if dtype != "bfloat16":
            change = "fpext" if kind == "double" else "fptrunc"
            return self.new(f"{change} {self.vector} {value} to <{self.lanes} x {kind}>")
        if self.scalar == "double":
            value = self.new(f"fptrunc {self.vector} {value} to <{self.lanes} x float>")
        return self._bfloat16(value)

    def _odd_float(self, value: str) -> str:
        """Round doubles to float by the rule of odd: what is inexact gets an odd last bit.

        Rounded once more, to half, it gives what one rounding would (Boldo & Melquiond 2008, When double rounding is
        odd). In one step only CPUs with AVX512-FP16 can; for the others LLVM calls a function that is not there.
        """
        floats, wide = f"<{self.lanes} x float>", f"<{self.lanes} x i32>"
        near = self.new(f"fptrunc {self.vector} {value} to {floats}")
        back = self.new(f"fpext {floats} {near} to {self.vector}")
        bits = self.new(f"bitcast {floats} {near} to {wide}")
        length, exact = (self.operation("abs", x) for x in (back, value))
        beyond = self.new(f"zext {self.mask} {self.new(f'fcmp ogt {self.vector} {length}, {exact}')} to {wide}")
        inexact = self.new(f"zext {self.mask} {self.new(f'fcmp one {self.vector} {back}, {value}')} to {wide}")
        odd = self.new(f"or {wide} {self.new(f'sub {wide} {bits}, {beyond}')}, {inexact}")
        return self.new(f"bitcast {wide} {odd} to {floats}")

    def _bfloat16(self, value: str) -> str:
        """Keep the upper half of a float32, rounded to nearest even; a NaN stays one."""
        wide = f"<{self.lanes} x i32>"
        bits = self.new(f"bitcast <{self.lanes} x float> {value} to {wide}")
        upper = self.new(f"lshr {wide} {bits}, {self.integers(16)}")
        odd = self.new(f"and {wide} {upper}, {self.integers(1)}")
        bias = self.new(f"add {wide} {odd}, {self.integers(0x7FFF)}")
        rounded = self.new(f"lshr {wide} {self.new(f'add {wide} {bits}, {bias}')}, {self.integers(16)}")
        quiet = self.new(f"or {wide} {upper}, {self.integers(0x40)}")
        nan = self.new(f"fcmp uno <{self.lanes} x float> {value}, {value}")
        chosen = self.new(f"select {self.mask} {nan}, {wide} {quiet}, {wide} {rounded}")
        return self.new(f"trunc {wide} {chosen} to <{self.lanes} x i16>")

    def store(self, dtype: str, value: str, address: str, mask: str = "") -> None:
        """Write a vector to memory."""
        kind = memory(dtype)
        stored = f"<{self.lanes} x {kind}>"
        value = self.narrow(dtype, value)
        if not mask:
            self.line(f"store {stored} {value}, ptr {address}, align {_bytes(kind)}")
            return
        name = f"llvm.masked.store.v{self.lanes}{_suffix(kind)}.p0"
        self.declarations.add(f"declare void @{name}({stored}, ptr, i32, {self.mask})")
        self.line(f"call void @{name}({stored} {value}, ptr {address}, i32 {_bytes(kind)}, {self.mask} {mask})")

    def operation(self, name: str, *values: str) -> str:
        """Compute one operation of a formula. Comparisons give a mask, everything else numbers."""
        special: dict[str, Callable[..., str]] = {
            "where": self._where, "sign": self._sign, "maximum": self._extreme("ogt"), "minimum": self._extreme("olt"),
        }  # fmt: skip
        if name in _ARITHMETIC:
            return self.new(f"{_ARITHMETIC[name]} {self.vector} {values[0]}, {values[1]}")
        if name in _COMPARISON:
            return self.new(f"fcmp {_COMPARISON[name]} {self.vector} {values[0]}, {values[1]}")
        if name in _FUNCTION:
            intrinsic = f"llvm.{_FUNCTION[name]}.v{self.lanes}{_LETTERS[self.scalar]}"
            return self.intrinsic(intrinsic, self.vector, (self.vector, values[0]))
        if name in special:
            return special[name](*values)
        if name in ("and", "or"):
            return self.new(f"{name} {self.mask} {values[0]}, {values[1]}")
        if name == "not":
            return self.new(f"xor {self.mask} {values[0]}, <{', '.join(['i1 true'] * self.lanes)}>")
        if name == "neg":
            return self.new(f"fneg {self.vector} {values[0]}")
        if name == "float":
            return self.new(f"uitofp {self.mask} {values[0]} to {self.vector}")
        if name == "spread":
            return values[0]
        raise NotImplementedError(name)

    def _where(self, condition: str, a: str, b: str) -> str:
        return self.new(f"select {self.mask} {condition}, {self.vector} {a}, {self.vector} {b}")

    def _sign(self, x: str) -> str:
        zero = "zeroinitializer"
        result = self._where(self.new(f"fcmp oeq {self.vector} {x}, {zero}"), zero, x)
        result = self._where(self.new(f"fcmp olt {self.vector} {x}, {zero}"), self.number(-1.0), result)
        return self._where(self.new(f"fcmp ogt {self.vector} {x}, {zero}"), self.number(1.0), result)

    def _extreme(self, comparison: str) -> Callable[[str, str], str]:
        """The larger or smaller; NaN if either is; the second of two zeros, as NumPy."""

        def choose(a: str, b: str) -> str:
            first = self.new(f"fcmp {comparison} {self.vector} {a}, {b}")
            nan = self.new(f"fcmp uno {self.vector} {a}, {a}")
            return self._where(self.new(f"or {self.mask} {first}, {nan}"), a, b)

        return choose

    def stochastic_bfloat16(self, value: str, index: str, seed: str) -> str:
        """Round to a neighbouring bfloat16, up with the probability that keeps the mean; see `formula.stochastic`."""
        wide = f"<{self.lanes} x i32>"
        bits = self.new(f"bitcast {self.vector} {value} to {wide}")
        noise = self._hash(self.new(f"xor {wide} {index}, {seed}"))
        noise = self.new(f"lshr {wide} {noise}, {self.integers(16)}")
        raised = self.new(f"add {wide} {bits}, {noise}")
        raised = self.new(f"and {wide} {raised}, {self.integers(-65536)}")
        exponent = self.new(f"and {wide} {bits}, {self.integers(0x7F800000)}")
        finite = self.new(f"icmp ne {wide} {exponent}, {self.integers(0x7F800000)}")
        chosen = self.new(f"select {self.mask} {finite}, {wide} {raised}, {wide} {bits}")
        return self.new(f"bitcast {wide} {chosen} to {self.vector}")

    def _hash(self, x: str) -> str:
        """Mix 32 bits: two multiplications and three shifts (the lowbias32 construction, C. Wellons 2018)."""
        wide = f"<{self.lanes} x i32>"
        for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97 - (1 << 32)), (15, 0)):
            x = self.new(f"xor {wide} {x}, {self.new(f'lshr {wide} {x}, {self.integers(shift)}')}")
            if factor:
                x = self.new(f"mul {wide} {x}, {self.integers(factor)}")
        return x


def memory(dtype: str) -> str:
    """Return the LLVM type of a dtype in memory."""
    return {"float64": "double", "float32": "float", "bfloat16": "i16", "float16": "half"}[dtype]


def _suffix(kind: str) -> str:
    return {"double": "f64", "float": "f32", "half": "f16", "i16": "i16"}[kind]


def _bytes(kind: str) -> int:
    return {"double": 8, "float": 4, "half": 2, "i16": 2}[kind]
