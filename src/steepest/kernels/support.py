"""What kernels can be made for, and why not where they cannot."""

import warnings
from functools import cache

import torch
from torch import Tensor

from steepest.kernels import gpu

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128)


def unsupported(p: Tensor) -> str:
    """Return why a parameter takes the formula by torch operations, or "" if it has a kernel. A reason is said once."""
    reason = _reason(str(p.device), p.dtype, p.layout, type(p))
    if reason:
        _say(reason)
    return reason


@cache
def _reason(device: str, dtype: torch.dtype, layout: torch.layout, kind: type) -> str:
    if kind is not Tensor and not issubclass(kind, torch.nn.Parameter):
        return f"parameters of type {kind.__name__}"
    if layout != torch.strided:
        return f"parameters with {layout} layout"
    if dtype not in DTYPES:
        return f"parameters of {dtype}"
    if device.startswith("cuda"):
        return gpu.missing(device)
    if device != "cpu":
        return f"parameters on the device {device}"
    return _missing_compiler()


@cache
def _missing_compiler() -> str:
    try:
        import llvmlite  # noqa: F401
    except ImportError as error:
        return f"a machine without llvmlite ({error})"
    return ""


@cache
def _say(reason: str) -> None:
    warnings.warn(f"steepest has no fast kernel for {reason}; the same formula runs by torch operations", stacklevel=5)
