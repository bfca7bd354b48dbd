"""Newton-Schulz by compiled code on the CPU: the order sheet of a stack of matrices, and how threads share the work."""

import threading
from functools import cache

import numpy as np
import torch
from torch import Tensor

from steepest.kernels import machine, pool
from steepest.kernels.newton_schulz import PHASES, SHEET, assemble, word
from steepest.kernels.products import BLOCK, LINE, PIECES, WHOLE
from steepest.kernels.stage import FIRST_WORD

LARGE = 1 << 25
"""Multiplications in one product from which on all threads work on a matrix that would be left to one of them."""

PER_ELEMENT = 2
"""So many multiplications in one product take as long as an element of AdamW, in which `pool` has its bound."""


def compiles(stack: Tensor, narrow: bool) -> bool:
    """Whether there is a kernel for this stack on this machine. narrow: for products in bfloat16."""
    plain = type(stack) is Tensor and stack.device.type == "cpu" and stack.layout is torch.strided
    return plain and stack.dtype != torch.float64 and _piece(narrow) is not None


@cache
def _piece(narrow: bool) -> tuple[int, int] | None:
    try:
        if narrow and not machine.has("avx512bf16"):
            return None
        return next((piece for feature, piece in PIECES.items() if machine.has(feature)), None)
    except ImportError:  # a machine without llvmlite
        return None


class _Work:
    """All that stacks of one shape have in common, and the order sheet that each of them is written into."""

    def __init__(self, narrow: bool, rows: int, columns: int, steps: int) -> None:
        piece = _piece(narrow)
        assert piece is not None
        short, long = sorted((rows, columns))
        down, across = -(-short // BLOCK), -(-long // BLOCK)
        each = WHOLE // 2 if narrow else WHOLE
        spaces = {
            "x": LINE + down * across * WHOLE, "s": down * down * WHOLE, "s_panels": down * down * each,
            "column_panels": down * across * each, "row_panels": down * across * each,
        }  # fmt: skip
        ends = dict(zip(spaces, np.cumsum(list(spaces.values())).tolist(), strict=True))
        of_s, of_x = -(-down // piece[1]), -(-across // piece[1])
        self.strips = dict.fromkeys(PHASES, down) | {"measure": 1, "gram": of_s, "square": of_s, "apply": of_x}
        step = ("pack", "gram", "pack_gram", "square", "pack_gram", "apply")
        order = [PHASES.index(phase) for phase in ("measure", "prepare", *step * steps, "finish")]
        self.order = np.array(order, np.int64)
        self.address = machine.function_address(assemble(narrow, *piece))
        self.multiplications = short * short * long
        self.bytes, self.room = 4 * rows * columns, ends["row_panels"]
        self.sheet = np.zeros(FIRST_WORD + len(SHEET), np.int64)
        self.sheet_address, self.numbers = self.sheet.ctypes.data, self.sheet.view(np.float64)[_NUMBERS]
        self._write(
            order=self.order.ctypes.data, bytes=self.bytes, rows=short, columns=long, tall=rows > columns,
            block_rows=down, block_columns=across, **dict(zip(list(spaces)[1:], ends.values(), strict=False)),
            **{f"strips of {phase}": count for phase, count in self.strips.items()},
        )  # fmt: skip

    def _write(self, **words: int) -> None:
        for name, value in words.items():
            self.sheet[_PLACES[name]] = value

    def whole(self, pointers: tuple[int, int, int], count: int) -> None:
        """Let each thread take one matrix after the other. pointers: source, target, room."""
        self.sheet[_POINTERS] = pointers
        self.sheet[_ITEMS] = (count, 1, 0, len(self.order), self.room)
        self._run(count > 1 and count * self.multiplications // PER_ELEMENT)

    def in_parts(self, pointers: tuple[int, int, int]) -> None:
        """Let all threads work on one matrix in one room, and wait for each other after each phase."""
        self.sheet[_POINTERS] = pointers
        for step, phase in enumerate(self.order):
            parts = self.strips[PHASES[phase]]
            self.sheet[_ITEMS] = (parts, parts, step, step + 1, 0)
            self._run(parts > 1 and pool.SMALL)

    def _run(self, elements: int) -> None:
        self.sheet[:2] = 0
        pool.run(self.address, self.sheet_address, elements)


_PLACES = {name: word(name) for name in SHEET}
_POINTERS = slice(word("source"), word("work") + 1)
_ITEMS = slice(word("items"), word("work_bytes") + 1)
_NUMBERS = slice(word("a"), word("eps") + 1)


class _Works(threading.local):
    """What was made ready in this thread: another may be in the middle of a stack of the same shape."""

    def __init__(self) -> None:
        self.known: dict[tuple[bool, int, int, int], _Work] = {}


_works = _Works()


def orthogonalize(
    stack: Tensor, target: Tensor, settings: tuple[int, tuple[float, float, float], float], narrow: bool
) -> Tensor:
    """Make each matrix of a stack orthogonal; fill and return target, which may be the stack.

    Both are (..., m, n), float32 and contiguous.
    """
    if not stack.numel():
        return target
    steps, coefficients, eps = settings
    rows, columns = stack.shape[-2:]
    key = (narrow, rows, columns, steps)
    work = _works.known.get(key)
    if work is None:
        work = _works.known[key] = _Work(*key)
    count, threads = stack.numel() // (rows * columns), torch.get_num_threads()
    apart = count % threads if threads > 1 and work.multiplications >= LARGE else 0
    rooms = threads if count - apart > 1 else 1
    room = torch.empty(work.room * rooms, dtype=torch.uint8, device="cpu")
    pointers = (stack.data_ptr(), target.data_ptr(), room.data_ptr())
    work.numbers[:] = (*coefficients, eps)
    if count > apart:
        work.whole(pointers, count - apart)
    for place in range(count - apart, count):
        work.in_parts((pointers[0] + place * work.bytes, pointers[1] + place * work.bytes, pointers[2]))
    return target
