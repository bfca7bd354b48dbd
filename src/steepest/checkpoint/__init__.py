"""Checkpoints on the disk: complete or not there at all, verified when read, and made of data only.

`<out>/checkpoints/step-000001000/` holds `model.safetensors`, which safetensors alone can load, as it does
`optimizer.safetensors`; `state.json` with all that is not a large tensor; and `MANIFEST.json` with size and sha256 of
each. A file is never unpickled, and no name in one is ever imported or called: user code builds objects, files only
fill them.
"""

from steepest.checkpoint.checkpoints import Checkpoint, Checkpoints
from steepest.checkpoint.verdict import Verdict, verify

__all__ = ["Checkpoint", "Checkpoints", "Verdict", "verify"]
