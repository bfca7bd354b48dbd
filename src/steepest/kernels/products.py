"""Products of matrices in LLVM assembly: blocks, the panels that a product reads, and the product itself.

A *block* is 16 x 16 numbers of float32, row after row. A *panel* is 16 rows or columns of a matrix, step after step of
the sum, so that one vector holds 16 numbers that meet the same one of the other side. In the narrow kind, pairs of
bfloat16 stand where the other has a float32.

Each sum is added up in order, so a number depends on nothing but its row and its column.
"""

from collections.abc import Sequence

from steepest.kernels.routine import Routine

BLOCK = 16
LINE = 4 * BLOCK  # bytes of a row of a block, and of a step of a panel
WHOLE = BLOCK * LINE  # bytes of a block
NUMBERS, WORDS = "<16 x float>", "<16 x i32>"
_HALVES, _PAIRS = "<16 x bfloat>", "<32 x bfloat>"

PIECES = {"avx512f": (8, 2), "fma": (4, 1)}
"""Feature of a CPU -> rows and panels of the piece of a product that its registers hold.

GFLOP/s of one thread on Zen 4, counting what is left out for symmetry: 512 bits 8 x 2 149; AVX2 4 x 1 137, 2 x 2 106,
4 x 2 89, 2 x 1 81. MKL has 107 and 102.
"""


def block_rows(code: Routine, block: str) -> list[str]:
    """Read a block."""
    return [code.new(f"load {NUMBERS}, ptr {code.after(block, row * LINE)}, align {LINE}") for row in range(BLOCK)]


def store_lines(code: Routine, kind: str, vectors: Sequence[str], start: str) -> None:
    """Write vectors one after the other: a block, or steps of a panel."""
    for place, vector in enumerate(vectors):
        code.line(f"store {kind} {vector}, ptr {code.after(start, place * LINE)}, align {LINE}")


def rounded(code: Routine, rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return rows of a block in bfloat16, and what numbers those are."""
    short = [code.new(f"fptrunc {NUMBERS} {x} to {_HALVES}") for x in rows]
    return short, [code.new(f"fpext {_HALVES} {x} to {NUMBERS}") for x in short]


def panels_of(code: Routine, rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a block as steps of panels whose sums run over its rows, and over its columns."""
    both = (rows, code.transposed(rows, NUMBERS))
    return tuple([code.new(f"bitcast {NUMBERS} {x} to {WORDS}") for x in each] for each in both)  # type: ignore[return-value]


def narrow_panels_of(code: Routine, short: Sequence[str]) -> tuple[list[str], list[str]]:
    """Do the same with a block in bfloat16."""
    half = BLOCK // 2
    alternating = [lane // 2 + BLOCK * (lane % 2) for lane in range(2 * BLOCK)]
    pairs = [code.shuffled(_HALVES, a, b, alternating) for a, b in zip(short[::2], short[1::2], strict=True)]
    words = [code.new(f"bitcast {_HALVES} {x} to <8 x i32>") for x in short]
    far = zip(words[:half], words[half:], strict=True)
    joined = [code.shuffled("<8 x i32>", a, b, list(range(BLOCK))) for a, b in far]
    return [code.new(f"bitcast {_PAIRS} {pair} to {WORDS}") for pair in pairs], code.transposed(joined, WORDS)


def product(narrow: bool, rows: int, panels: int) -> Routine:
    """Return `product`: out <- before out + factor left right, for one panel of the right side or as many as fit.

    left, right: panels. steps: of the sum. pieces: of `rows` rows. row_bytes: from a row of blocks of out to the next.
    before: 0 reads nothing.
    """
    code = Routine(
        "product", ("ptr", "%left"), ("ptr", "%right"), ("i64", "%steps"), ("i64", "%pieces"), ("i64", "%panels"),
        ("ptr", "%out"), ("i64", "%row_bytes"), ("double", "%before"), ("double", "%factor"),
    )  # fmt: skip
    size = code.times("%steps", LINE)
    before, factor = (code.splat("float", code.new(f"fptrunc double {x} to float")) for x in ("%before", "%factor"))
    anew = code.splat("i1", code.new("fcmp oeq double %before, 0.0"))
    for here in range(1, panels + 1):
        right = [code.after("%right", code.times(size, place)) for place in range(here)]
        with code.when(code.new(f"icmp eq i64 %panels, {here}")), code.loop(0, "%pieces") as piece:
            block, inside = (code.new(f"{kind} i64 {piece.index}, {BLOCK // rows}") for kind in ("udiv", "urem"))
            left = code.after("%left", code.times(block, size), code.times(inside, 4 * rows))
            out = code.after("%out", code.times(block, "%row_bytes"), code.times(inside, rows * LINE))
            for place, total in enumerate(_sums(code, narrow, left, right, rows)):
                at = code.after(out, place // here * LINE + place % here * WHOLE)
                old = code.new(f"load {NUMBERS}, ptr {at}, align {LINE}")
                old = code.new(f"select <16 x i1> {anew}, {NUMBERS} zeroinitializer, {NUMBERS} {old}")
                operands = (before, old, code.new(f"fmul {NUMBERS} {factor}, {total}"))
                store_lines(code, NUMBERS, [_fused(code, "llvm.fma.v16f32", NUMBERS, *operands)], at)
    return code


def _sums(code: Routine, narrow: bool, left: str, right: Sequence[str], rows: int) -> tuple[str, ...]:
    """Return the sums over all steps: for each row of the left side one vector for each panel of the right."""
    with code.loop(0, "%steps", [(NUMBERS, "zeroinitializer")] * (rows * len(right))) as step:
        offset = code.times(step.index, LINE)
        kind, word = (_PAIRS, "i32") if narrow else (NUMBERS, "float")
        columns = [code.new(f"load {kind}, ptr {code.after(panel, offset)}, align {LINE}") for panel in right]
        sums, totals = iter(step.values), []
        for row in range(rows):
            x = code.splat(word, code.number_at(word, code.after(left, offset), row))
            if narrow:
                x = code.new(f"bitcast {WORDS} {x} to {_PAIRS}")
                name = "llvm.x86.avx512bf16.dpbf16ps.512"
                two = [((NUMBERS, next(sums)), (_PAIRS, x), (_PAIRS, y)) for y in columns]
                totals += [code.intrinsic(name, NUMBERS, *operands) for operands in two]
            else:
                totals += [_fused(code, "llvm.fma.v16f32", NUMBERS, x, y, next(sums)) for y in columns]
        step.carry(totals)
    return step.values


def _fused(code: Routine, name: str, kind: str, *operands: str) -> str:
    return code.intrinsic(name, kind, *((kind, operand) for operand in operands))
