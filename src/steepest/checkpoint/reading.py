"""A checkpoint's files back to its tree, each compared with its digest in the same pass."""

import errno
import hashlib
import json
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steepest.checkpoint.dtypes import BY_NAME
from steepest.checkpoint.manifest import MANIFEST, Damaged, Manifest, read_manifest
from steepest.checkpoint.placing import MODEL, OPTIMIZER, REST, STATE
from steepest.checkpoint.tree import decode

CHUNK = 1 << 24
Raw = dict[str, dict[str, Tensor]]
"""File -> name -> the bytes of a tensor."""


def examine(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint after comparing every file with it and reading its tree without values.

    Raises Damaged or Newer; OSError when the files may be sound, but this process cannot read them.
    """
    with _media(folder):
        manifest = outline(folder)
        for name, (_, digest) in manifest.files.items():
            if _digest(folder / name) != digest:
                raise Damaged(f"the content of {folder / name} is not what was written: its sha256 is another")
        _tree(folder, manifest, values=False)
    return manifest


def outline(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint after comparing names and sizes of its files, which takes no time."""
    if not folder.is_dir():
        raise Damaged(f"{folder} is not a folder")
    manifest = read_manifest(folder)
    here = {path.name: path.lstat() for path in folder.iterdir()}
    if extra := sorted(set(here) - set(manifest.files) - {MANIFEST}):
        raise Damaged(f"{folder / extra[0]} does not belong to it")
    for name, (size, _) in manifest.files.items():
        if name not in here:
            raise Damaged(f"{folder / name} is missing")
        if not stat.S_ISREG(here[name].st_mode):
            raise Damaged(f"{folder / name} is not a plain file")
        if here[name].st_size != size:
            raise Damaged(f"{folder / name} has {here[name].st_size:,} bytes, and {size:,} were written")
    return manifest


def read_tree(folder: Path) -> dict[str, Any]:
    """Return the tree of a checkpoint, its tensors on the CPU. Raises as `examine` does."""
    with _media(folder):
        return _tree(folder, outline(folder), values=True)


@contextmanager
def _media(folder: Path) -> Iterator[None]:
    """Take an error of the medium for damage; other errors, as a missing permission, say nothing of the files."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOENT):
            raise
        raise Damaged(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def _tree(folder: Path, manifest: Manifest, values: bool) -> dict[str, Any]:
    """Return the tree; without values, its tensors of any size are on the meta device."""
    path = folder / STATE
    try:
        raw: Raw = {name: _tensors(folder, name, manifest, values) for name in manifest.files if name != STATE}
        content = path.read_bytes()
        _compare(path, hashlib.sha256(content).hexdigest(), manifest)
        state = json.loads(content)
        raw[STATE] = {name: _from_hex(entry["hex"]) for name, entry in state["tensors"].items()}
        tree = decode(state["tree"], lambda entry: _tensor(entry, raw))
        if type(tree) is not dict:
            raise TypeError("its tree is not a dict")
    except (Damaged, OSError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise Damaged(
            f"{path} does not hold a tree that fits its tensors ({type(error).__name__}: {reason})"
        ) from error
    return tree


def _tensor(entry: dict[str, Any], raw: Raw) -> Tensor:
    """Return the tensor that an entry of the tree describes, as a view of the bytes that were read."""
    flat = raw[entry["file"]][entry["name"]].view(BY_NAME[entry["dtype"]])
    if "stride" not in entry:
        return flat.view(entry["shape"])
    last = sum((size - 1) * stride for size, stride in zip(entry["shape"], entry["stride"], strict=True))
    if entry["offset"] < 0 or entry["offset"] + last >= flat.numel():
        raise ValueError(f"a view reaches beyond the tensor {entry['name']}")
    return flat.as_strided(entry["shape"], entry["stride"], entry["offset"])


def _from_hex(text: str) -> Tensor:
    content = bytearray.fromhex(text)
    return torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _tensors(folder: Path, name: str, manifest: Manifest, values: bool) -> dict[str, Tensor]:
    """Return the bytes of each tensor of a file, or without values only how many there are."""
    path = folder / name
    if name not in (MODEL, OPTIMIZER, REST):
        raise Damaged(f"{path} is no file of a checkpoint")
    with path.open("rb", buffering=0) as file:
        head = _exactly(file, bytearray(8))
        (length,) = struct.unpack("<Q", head)
        if length > manifest.files[name][0]:
            raise Damaged(f"{path} is not a safetensors file")
        head += _exactly(file, bytearray(length))
        header = _header(path, head[8:])
        if not values:
            return {key: torch.empty(end - begin, dtype=torch.uint8, device="meta") for begin, end, key in header}
        tensors, digest = {}, hashlib.sha256(head)
        for begin, end, key in header:
            tensors[key] = torch.empty(end - begin, dtype=torch.uint8)
            for part in _chunks(memoryview(tensors[key].numpy())):
                digest.update(_exactly(file, part))
    _compare(path, digest.hexdigest(), manifest)
    return tensors


def _header(path: Path, text: bytearray) -> list[tuple[int, int, str]]:
    """Return begin, end and name of each tensor in the order of the file, after safetensors itself has judged it."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, ValueError) as error:
        raise Damaged(f"{path} is not a safetensors file ({error})") from error
    header = json.loads(text)
    header.pop("__metadata__", None)
    placed = sorted((*entry["data_offsets"], key) for key, entry in header.items())
    ends = [0, *(end for _, end, _ in placed)]
    if any(begin != before or end < begin for (begin, end, _), before in zip(placed, ends, strict=False)):
        raise Damaged(f"{path} is not a safetensors file: its tensors do not follow each other")
    if ends[-1] + 8 + len(text) != path.stat().st_size:
        raise Damaged(f"{path} is not a safetensors file: its tensors do not fill it")
    return placed


def _compare(path: Path, digest: str, manifest: Manifest) -> None:
    if digest != manifest.files[path.name][1]:
        raise Damaged(f"the content of {path} is not what was written: its sha256 is another")


def _exactly(file: Any, target: Any) -> Any:
    """Fill the target from the file."""
    view, done = memoryview(target), 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise Damaged(f"{file.name} ends too early")
        done += count
    return target


def _chunks(view: memoryview) -> Iterator[memoryview]:
    for begin in range(0, len(view), CHUNK):
        yield view[begin : begin + CHUNK]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
