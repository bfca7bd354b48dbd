"""Newton-Schulz as a function in LLVM assembly: one call makes a stack of matrices orthogonal.

    X <- a X + (b S + c S S) X, where S = X X^T

X has no more rows than columns. X and S lie in blocks of float32, padded with zeros; what products read is packed into
panels before (`products`). S and S S are symmetric: of them only blocks on and above the diagonal are computed.
"""

from collections.abc import Callable
from functools import cache

from steepest.kernels.products import (
    BLOCK,
    LINE,
    NUMBERS,
    WHOLE,
    WORDS,
    block_rows,
    narrow_panels_of,
    panels_of,
    product,
    rounded,
    store_lines,
)
from steepest.kernels.routine import Routine, module
from steepest.kernels.stage import FIRST_WORD

PHASES = ("measure", "prepare", "pack", "gram", "pack_gram", "square", "apply", "finish")
SHEET = (
    "items", "parts", "first", "last", "work_bytes", "source", "target", "work", "order", "bytes",
    "rows", "columns", "tall", "block_rows", "block_columns", "a", "b", "c", "eps",
    "s", "s_panels", "column_panels", "row_panels", *(f"strips of {phase}" for phase in PHASES),
)  # fmt: skip
"""Words of the order sheet. An item is a matrix; where parts > 1, a strip of one phase of the first. bytes: of a
matrix. rows, columns: of X. tall: in memory X is transposed. s and what follows: where these lie in the work space,
which begins with the length of the matrix and X."""

_JOB = (("ptr", "%sheet"), ("ptr", "%source"), ("ptr", "%target"), ("ptr", "%work"), ("i64", "%strip"))
_WIDE = "<16 x double>"


@cache
def assemble(narrow: bool, rows: int, panels: int) -> str:
    """Return the assembly of `void stage(ptr sheet)`.

    narrow: multiply in bfloat16, add in float32. rows, panels: the piece of a product that registers hold.
    """
    products = [_multiplication(name, narrow, rows, panels) for name in ("gram", "square", "apply")]
    packings = [_packing(name, narrow) for name in ("pack", "pack_gram")]
    return module(_stage(), _measure(), _prepare(), _finish(), product(narrow, rows, panels), *products, *packings)


def word(name: str) -> int:
    """Return the place of a word of the sheet."""
    return FIRST_WORD + SHEET.index(name)


def _word(code: Routine, name: str, kind: str = "i64") -> str:
    return code.number_at(kind, code.address("i64", "%sheet", word(name)), 0)


def _stage() -> Routine:
    """Take the next item from the counter of all threads, until none is left."""
    code = Routine("stage", ("ptr", "%sheet"), visible=True)
    slot = code.new(f"atomicrmw add ptr {code.address('i64', '%sheet', 1)}, i64 1 monotonic")
    work = code.after(_word(code, "work", "ptr"), code.times(slot, _word(code, "work_bytes")))
    items, parts, size, first, last = (_word(code, name) for name in ("items", "parts", "bytes", "first", "last"))
    source, target, order = (_word(code, name, "ptr") for name in ("source", "target", "order"))
    code.line("br label %next")
    code.label("next")
    code.line("%item = atomicrmw add ptr %sheet, i64 1 monotonic")
    code.line(f"br i1 {code.new(f'icmp uge i64 %item, {items}')}, label %exit, label %work")
    code.label("work")
    offset = code.times(code.new(f"udiv i64 %item, {parts}"), size)
    part = code.new(f"urem i64 %item, {parts}")
    whole, after = code.new(f"icmp eq i64 {parts}, 1"), code.plus(part, 1)
    job = [("ptr", "%sheet"), ("ptr", code.after(source, offset)), ("ptr", code.after(target, offset)), ("ptr", work)]
    with code.loop(first, last) as step:
        phase = code.number_at("i64", order, step.index)
        strips = code.number_at("i64", code.address("i64", "%sheet", word(f"strips of {PHASES[0]}")), phase)
        end = code.new(f"select i1 {whole}, i64 {strips}, i64 {after}")
        with code.loop(part, end) as strip:
            for place, name in enumerate(PHASES):
                with code.when(code.new(f"icmp eq i64 {phase}, {place}")):
                    code.call(name, *job, ("i64", strip.index))
    code.line("br label %next")
    code.label("exit")
    return code


def _measure() -> Routine:
    """Note the length of the matrix, at least eps: squared and added up in double, as the formula does."""
    code = Routine("measure", *_JOB)
    count = code.times(_word(code, "rows"), _word(code, "columns"))
    stop = code.new(f"udiv i64 {code.plus(count, BLOCK - 1)}, {BLOCK}")
    with code.loop(0, stop, [(_WIDE, "zeroinitializer")]) as each:
        done = code.times(each.index, BLOCK)
        x = code.load("float32", code.address("float", "%source", done), code.first_lanes(code.minus(count, done)))
        x = code.new(f"fpext {NUMBERS} {x} to {_WIDE}")
        each.carry([code.intrinsic("llvm.fma.v16f64", _WIDE, (_WIDE, x), (_WIDE, x), (_WIDE, each.values[0]))])
    squares = code.intrinsic("llvm.vector.reduce.fadd.v16f64", "double", ("double", "0.0"), (_WIDE, each.values[0]))
    length, least = code.intrinsic("llvm.sqrt.f64", "double", ("double", squares)), _word(code, "eps", "double")
    length = code.new(f"select i1 {code.new(f'fcmp olt double {length}, {least}')}, double {least}, double {length}")
    code.line(f"store float {code.new(f'fptrunc double {length} to float')}, ptr %work")
    return code


def _prepare() -> Routine:
    """Bring a row of blocks of X into place, divided by the length of the matrix."""
    code = Routine("prepare", *_JOB)
    length = code.splat("float", code.number_at("float", "%work", 0))

    def bring(block: str, places: list[tuple[str, str]], tall: bool) -> None:
        lines = [code.new(f"fdiv {NUMBERS} {code.load('float32', *place)}, {length}") for place in places]
        store_lines(code, NUMBERS, code.transposed(lines, NUMBERS) if tall else lines, block)

    return _outside(code, "%source", bring)


def _finish() -> Routine:
    """Write a row of blocks of X to where it is wanted."""
    code = Routine("finish", *_JOB)

    def write(block: str, places: list[tuple[str, str]], tall: bool) -> None:
        rows = block_rows(code, block)
        for line, place in zip(code.transposed(rows, NUMBERS) if tall else rows, places, strict=True):
            code.store("float32", line, *place)

    return _outside(code, "%target", write)


def _outside(code: Routine, matrix: str, move: Callable[[str, list[tuple[str, str]], bool], None]) -> Routine:
    """Go through a row of blocks, each with the 16 addresses and masks that it has in a matrix in memory."""
    rows, columns, tall, across = (_word(code, name) for name in ("rows", "columns", "tall", "block_columns"))
    top = code.times("%strip", BLOCK)
    for is_tall in (False, True):
        with code.when(code.new(f"icmp eq i64 {tall}, {int(is_tall)}")), code.loop(0, across) as column:
            place = code.plus(code.times("%strip", across), column.index)
            left = code.times(column.index, BLOCK)
            first, width, height, start = (left, rows, columns, top) if is_tall else (top, columns, rows, left)
            lines = [code.plus(first, line) for line in range(BLOCK)]
            left_over = code.minus(width, start)
            there = [code.new(f"icmp slt i64 {line}, {height}") for line in lines]
            counts = [code.new(f"select i1 {each}, i64 {left_over}, i64 0") for each in there]
            addresses = [code.address("float", matrix, code.times(line, width), start) for line in lines]
            masks = [code.first_lanes(count) for count in counts]
            block = code.after("%work", LINE, code.times(place, WHOLE))
            move(block, list(zip(addresses, masks, strict=True)), is_tall)
    return code


def _packing(name: str, narrow: bool) -> Routine:
    """Copy a row of blocks of X into the panels of its columns and its rows; of S, from the diagonal on, into its own.

    Narrow, the blocks become what was rounded: X and S are then the same numbers in all that is made of them, or the
    error would be half as large again.
    """
    code = Routine(name, *_JOB)
    of_s = name == "pack_gram"
    down, across = _word(code, "block_rows"), _word(code, "block_rows" if of_s else "block_columns")
    blocks = code.after("%work", _word(code, "s") if of_s else LINE)
    kinds = ("s_panels", "s_panels") if of_s else ("column_panels", "row_panels")
    columns, rows = (code.after("%work", _word(code, kind)) for kind in kinds)
    size = WHOLE // 2 if narrow else WHOLE
    with code.loop("%strip" if of_s else 0, across) as column:
        place = code.plus(code.times("%strip", across), column.index)
        block = code.after(blocks, code.times(place, WHOLE))
        x = block_rows(code, block)
        if narrow:
            short, x = rounded(code, x)
            store_lines(code, NUMBERS, x, block)
            straight, turned = narrow_panels_of(code, short)
        else:
            straight, turned = panels_of(code, x)
        below = code.plus(code.times(column.index, down), "%strip")
        store_lines(code, WORDS, straight, code.after(columns, code.times(below, size)))
        store_lines(code, WORDS, turned, code.after(rows, code.times(place, size)))
    return code


def _multiplication(name: str, narrow: bool, rows: int, panels: int) -> Routine:
    """Compute some columns of S = X X^T, of S <- b S + c S S, or of X <- a X + S X, each in its place."""
    code = Routine(name, *_JOB)
    down, across = _word(code, "block_rows"), _word(code, "block_columns")
    columns, inner = (across if name == "apply" else down), (across if name == "gram" else down)
    first = code.times("%strip", panels)
    deep = down if name == "apply" else code.least(code.plus(first, panels), down)
    left, right, before, factor = {
        "gram": ("row_panels", "row_panels", "0.0", "1.0"),
        "square": ("s_panels", "s_panels", _word(code, "b", "double"), _word(code, "c", "double")),
        "apply": ("s_panels", "column_panels", _word(code, "a", "double"), "1.0"),
    }[name]
    steps = code.times(inner, BLOCK // 2 if narrow else BLOCK)
    start = code.times(first, code.times(steps, LINE))
    out = code.after("%work", LINE if name == "apply" else _word(code, "s"), code.times(first, WHOLE))
    code.call(
        "product", ("ptr", code.after("%work", _word(code, left))),
        ("ptr", code.after("%work", _word(code, right), start)), ("i64", steps),
        ("i64", code.times(deep, BLOCK // rows)), ("i64", code.least(code.minus(columns, first), panels)),
        ("ptr", out), ("i64", code.times(columns, WHOLE)), ("double", before), ("double", factor),
    )  # fmt: skip
    return code
