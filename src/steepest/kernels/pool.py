"""Runs a compiled stage on torch's own threads, so that its settings hold and no second pool fights for the cores."""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

from steepest.kernels.machine import STAGE_FUNCTION

SMALL = 1 << 13  # elements (5 us of AdamW) below which a second thread was measured to cost more than it saves
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # the pool's threads did not survive, and OpenMP would wait for them for ever


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(function: int, sheet: int, elements: int) -> None:
    """Call the stage at this address with this order sheet, on as many threads as torch uses, and wait.

    Every thread runs the same function; they share the rows by the counter in the sheet.
    """
    threads = 1 if _forked or elements < SMALL else torch.get_num_threads()
    if threads == 1:
        STAGE_FUNCTION(function)(sheet)
    else:
        parallel = _openmp() or _threads
        parallel(function, sheet, threads)


@cache
def _openmp() -> Callable[[int, int, int], None] | None:
    """Return a caller of torch's own OpenMP, or None where it is not libgomp or fails its test."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        parallel = ctypes.CDLL(str(library), mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_LAZY).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None

    def call(function: int, sheet: int, threads: int) -> None:
        parallel(function, sheet, threads, 0)

    return call if _works(call) else None


def _works(call: Callable[[int, int, int], None]) -> bool:
    """Check on a harmless function that the region runs it on each thread and returns."""
    seen: list[int] = []
    lock = threading.Lock()

    def note(argument: int) -> None:
        with lock:
            seen.append(argument)

    probe = STAGE_FUNCTION(note)
    call(ctypes.cast(probe, ctypes.c_void_p).value or 0, 7, 2)
    return set(seen) == {7} and 1 <= len(seen) <= 2


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="steepest")


def _threads(function: int, sheet: int, threads: int) -> None:
    """Do the same with Python's threads, which ctypes lets run side by side: slower to wake, never wrong."""
    stage = STAGE_FUNCTION(function)
    others = [_executor(threads).submit(stage, sheet) for _ in range(threads - 1)]
    stage(sheet)
    for other in others:
        other.result()
