"""Triton source to PTX and machine code, which takes no GPU, and what in it would not be the formula.

Triton's interpreter computes with NumPy, so it cannot see how a division is rounded or whether a product and a sum are
fused. The compiler's own output can.
"""

import re
from typing import Any

from steepest.kernels.gpu import OPTIONS, keep_binaries, load

# In float32 only: double has no approximate forms but as starting points inside its own exact ones.
_INEXACT = re.compile(
    r"\b((?:div\.(?:full|approx)|(?:sqrt|rsqrt|rcp|ex2|lg2|sin|cos|tanh)\.approx|fma)[.\w]*\.f(?:32|16|16x2)\b"
    r"|\w[.\w]*\.ftz[.\w]*\.f32\b)"
)
_TYPES = {"constants": "*fp64", "scalars": "*fp64", "sums": "*fp64", "result": "*fp64"}


def compile_for(text: str, capability: int = 90, **options: Any) -> dict[str, Any]:
    """Return, for each kernel of a module that `triton_text.source` printed, what the compiler made of it.

    "ptx" is text; "sass", the machine code as text, is worked out when asked for. capability: of the GPU, times ten.
    options: instead of those of a launch.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    keep_binaries()
    module = load(text)
    target = GPUTarget("cuda", capability, 32)
    made = {}
    for name in [name for name in ("stage", "totals") if name in module]:
        arguments = module[name].arg_names
        signature = {argument: _TYPES.get(argument, "*i64") for argument in arguments}
        aligned = {(place,): [["tt.divisibility", 16]] for place in range(len(arguments))}
        made[name] = triton.compile(ASTSource(module[name], signature, {}, aligned), target, OPTIONS | options).asm
    return made


def breaches(ptx: str) -> list[str]:
    """Return the instructions that round otherwise than the formula: approximations, fused ones, lost denormals."""
    return sorted(set(_INEXACT.findall(ptx)))
