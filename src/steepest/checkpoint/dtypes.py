"""The dtypes that a checkpoint knows, by name: a fixed table, so that no name in a file is ever looked up elsewhere."""

import torch

_FORMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "bool": ("BOOL", ()),
    "uint8": ("U8", ()), "uint16": ("U16", ()), "uint32": ("U32", ()), "uint64": ("U64", ()),
    "int8": ("I8", ()), "int16": ("I16", ()), "int32": ("I32", ()), "int64": ("I64", ()),
    "float16": ("F16", ()), "bfloat16": ("BF16", ()), "float32": ("F32", ()), "float64": ("F64", ()),
    "complex32": ("F16", (2,)), "complex64": ("C64", ()), "complex128": ("F64", (2,)),
    "float8_e4m3fn": ("F8_E4M3", ()), "float8_e5m2": ("F8_E5M2", ()),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", ()), "float8_e5m2fnuz": ("F8_E5M2FNUZ", ()),
    "float8_e8m0fnu": ("U8", ()), "float4_e2m1fn_x2": ("U8", ()),
}  # fmt: skip
"""Name in torch -> name in safetensors, and the dimension that is added where safetensors has no complex numbers of
this size. Two small dtypes are kept as their bytes, because safetensors for torch does not read them."""

BY_NAME: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _FORMS}
NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in BY_NAME.items()}


def form(dtype: torch.dtype, shape: tuple[int, ...]) -> dict[str, object]:
    """Return dtype and shape of a tensor as the header of a safetensors file states them."""
    name, more = _FORMS[NAMES[dtype]]
    return {"dtype": name, "shape": [*shape, *more]}
