"""Real text that every machine has: the sources of Python's standard library."""

import hashlib
import lzma
import sysconfig
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SKIPPED = {
    "__pycache__", "config", "dist-packages", "encodings", "ensurepip", "idle_test", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
"""Folders without prose: tests, tables, packages that are not Python's own."""

LEAST = 1 << 20
"""Bytes that training and held-out text need together."""


def library_files() -> dict[str, bytes]:
    """Return the text of every module of the standard library by its path there.

    Raises ValueError when this Python comes without sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if not SKIPPED & set(path.relative_to(root).parts)]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    size = sum(map(len, files.values()))
    if size < LEAST:
        raise ValueError(
            f"This Python has {size:,} bytes of library sources in {root}, and the demo learns from {LEAST:,} or more; "
            "run it with a Python that was installed with its sources."
        )
    return files


def is_held_out(name: str) -> bool:
    """Tell whether a file is kept for the test: one in ten, chosen by its name alone."""
    return hashlib.sha256(name.encode()).digest()[0] < 26


def split(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Return the text to train on and the text held out, whole files each."""
    train = b"".join(text for name, text in files.items() if not is_held_out(name))
    held_out = b"".join(text for name, text in files.items() if is_held_out(name))
    return train, held_out


def as_tensor(text: bytes) -> Tensor:
    """Return the bytes as numbers from 0 to 255."""
    return torch.from_numpy(np.frombuffer(text, np.uint8).copy())


def xz_bits_per_byte(text: bytes) -> float:
    """Return what `xz -9` needs for this text, in its most thorough form."""
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
