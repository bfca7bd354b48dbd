"""Stochastic rounding by torch operations, the same bits as in the kernels."""

import torch
from torch import Tensor


def stochastic_bfloat16(x: Tensor, seed: Tensor | float) -> Tensor:
    """Round float32 to a neighbouring bfloat16, up with the probability that keeps the mean; NaN and infinity stay.

    The noise of element i is the upper half of a hash of i xor seed. x: float32. seed: a whole number below 2^24.
    """
    bits = x.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    noise = _hash(torch.arange(x.numel(), device=x.device).reshape(x.shape) ^ int(seed)) >> 16
    raised = (bits + noise) & 0xFFFF0000
    chosen = torch.where((bits & 0x7F800000) == 0x7F800000, bits, raised)
    signed = torch.where(chosen >= 1 << 31, chosen - (1 << 32), chosen)
    return signed.to(torch.int32).view(torch.float32)


def _hash(x: Tensor) -> Tensor:
    """Mix 32 bits, held in 64: the lowbias32 construction of C. Wellons, 2018."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 1)):
        x = x ^ (x >> shift)
        x = (x * factor) & 0xFFFFFFFF
    return x
