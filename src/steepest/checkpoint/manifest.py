"""MANIFEST.json: what a checkpoint consists of, written last. Its last line is the digest of all lines before it."""

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steepest import __version__
from steepest.checkpoint.tree import decode, encode, no_tensor

MANIFEST = "MANIFEST.json"
FORMAT = 1
_LAST = ',\n"digest": "{}"}}\n'


class Damaged(ValueError):
    """A checkpoint is not what was written. The message is the part of a sentence that names file and fault."""


class Newer(ValueError):
    """A checkpoint was written in a format that came after this version of steepest."""


@dataclass(frozen=True)
class Manifest:
    """What a manifest says. files: name -> (size in bytes, sha256 as hex)."""

    run: str
    step: int
    score: float | None
    facts: dict[str, Any]
    files: dict[str, tuple[int, str]]

    def render(self) -> bytes:
        """Return the bytes of the file; TypeError where the facts are not plain data."""
        content = {
            "format": FORMAT, "steepest": __version__, "torch": str(torch.__version__), "run": self.run,
            "step": self.step, "score": encode(self.score, ("score",), None),
            "facts": encode(self.facts, ("facts",), None),
            "files": {name: {"size": size, "sha256": digest} for name, (size, digest) in self.files.items()},
        }  # fmt: skip
        body = json.dumps(content, indent=1, allow_nan=False)[:-2].encode()
        return body + _LAST.format(hashlib.sha256(body).hexdigest()).encode()


def parse(content: bytes, path: Path) -> Manifest:
    """Return the manifest in the file at `path`; raises Damaged or Newer."""
    length = len(_LAST.format("0" * 64))
    body, last = content[:-length], content[-length:]
    if last != _LAST.format(hashlib.sha256(body).hexdigest()).encode():
        raise Damaged(f"{path} is not as it was written: the digest in its last line is that of another text")
    try:
        read = json.loads(body + b"}")
        if isinstance(read["format"], int) and read["format"] > FORMAT:
            raise Newer(
                f"The checkpoint {path.parent} was written by steepest {read['steepest']} in format "
                f"{read['format']}; this is steepest {__version__}, which reads format {FORMAT}. Install that version, "
                f"or a later one, to go on from it."
            )
        manifest = _from_json(read)
    except Newer:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} does not hold a manifest ({type(error).__name__}: {error})") from error
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint; raises Damaged, Newer, or OSError where it may not be read."""
    path = folder / MANIFEST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Damaged(f"{path} is not a plain file")
        return parse(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"{path} is missing") from None


def _from_json(read: dict[str, Any]) -> Manifest:
    files = {name: (entry["size"], entry["sha256"]) for name, entry in read["files"].items()}
    score, facts = decode(read["score"], no_tensor), decode(read["facts"], no_tensor)
    sound = (
        read["format"] == FORMAT
        and type(read["run"]) is str
        and type(read["step"]) is int
        and (score is None or isinstance(score, int | float))
        and type(facts) is dict
        and all(type(size) is int and type(digest) is str for size, digest in files.values())
    )
    if not sound:
        raise TypeError("a field holds a value of another type than steepest writes")
    return Manifest(read["run"], read["step"], score, facts, files)
