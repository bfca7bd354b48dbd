"""The one copy of all tensors that training waits for; the files are written from it."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steepest.checkpoint.dtypes import form
from steepest.checkpoint.placing import MODEL, OPTIMIZER, REST, STATE, Kept, Placed


@dataclass(frozen=True)
class Piece:
    """A file to write, as the bytes that follow each other in it."""

    name: str
    parts: list[bytes | memoryview]

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return sum(len(part) for part in self.parts)


@dataclass(frozen=True)
class Staged:
    """A tree that nothing changes any more: files of tensors, and what goes to `state.json`."""

    files: list[Piece]
    state: dict[str, Any]

    def pieces(self) -> list[Piece]:
        """Return every file but the manifest."""
        text = json.dumps(self.state, allow_nan=False, separators=(",", ":"))
        return [*self.files, Piece(STATE, [text.encode()])]


class Stage:
    """Memory on the CPU for one copy of a tree, kept for the next one; pinned where tensors come from a GPU."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def copy(self, placed: Placed) -> Staged:
        """Copy every tensor. What was staged before is overwritten. Raises MemoryError when there is no room."""
        small = {
            kept.name: {**_described(kept), "hex": _bytes(kept.tensor).hex()}
            for kept in placed.kept
            if kept.file == STATE
        }
        files = []
        for name in (MODEL, OPTIMIZER, REST):
            kept = [each for each in placed.kept if each.file == name]
            if kept:
                files.append(self._file(name, kept, placed.same if name == MODEL else {}))
        for device in {kept.tensor.device for kept in placed.kept}:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return Staged(files, {"tree": placed.tree, "tensors": small})

    def _file(self, name: str, kept: list[Kept], same: dict[str, str]) -> Piece:
        """Copy the tensors of one file, the widest elements first, so that each begins at a multiple of its width."""
        kept = sorted(kept, key=lambda each: -each.tensor.element_size())
        pinned = any(each.tensor.is_cuda for each in kept)
        buffer = self._room(name, sum(each.tensor.nbytes for each in kept), pinned)
        header: dict[str, Any] = {"__metadata__": {"format": "pt", **same}}
        end = 0
        for each in kept:
            begin, end = end, end + each.tensor.nbytes
            target = buffer[begin:end].view(each.tensor.dtype).view(each.tensor.shape)
            target.copy_(each.tensor, non_blocking=pinned)
            header[each.name] = {**_described(each), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return Piece(name, [struct.pack("<Q", len(text)) + text, buffer.numpy().data[:end]])

    def _room(self, name: str, size: int, pinned: bool) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.is_pinned() != pinned:
            self._buffers.pop(name, None)
            try:
                self._buffers[name] = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
            except RuntimeError as error:
                raise MemoryError(f"no memory for a copy of {size:,} bytes{' in pinned memory' * pinned}") from error
        return self._buffers[name]


def _described(kept: Kept) -> dict[str, Any]:
    return form(kept.tensor.dtype, tuple(kept.tensor.shape))


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes()
