"""Matrix functions of a formula on stacks of torch tensors, (count, m, n): many matrices of one shape at once."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from steepest import formula
from steepest.kernels import orthogonal

# Found by measurement on CPUs. By torch operations: so many elements for each thread at a time keep Newton-Schulz near
# the cores; and from so many multiplications in one product on, computing the symmetric products by halves pays for its
# extra calls. Compiled: bfloat16 takes half of the time of float32 at any size, but below that both take some 20 us.
# All is asked of one matrix and not of the stack, so that a matrix has the same result in any company.
NEAR = 1 << 18
WORTH_HALVING = 1 << 22
WORTH_NARROWING = 1 << 15


def orthogonalize(stack: Any, settings: tuple[int, tuple[float, float, float], float], own: bool = False) -> Any:
    """Return each matrix made orthogonal; see `steepest.formula.orthogonalize`. settings: (steps, coefficients, eps).

    The same polynomial, added up in another order. float64 is computed in float64, everything else in float32; where
    that is faster (`narrow`) the products are bfloat16, as torch.optim.Muon's always are. Nothing waits for the device.
    Returns a new contiguous tensor of the dtype of the stack. stack: (..., m, n); of NumPy it takes the formula itself.
    own: the stack is not needed any more, and may become the result.
    """
    if not isinstance(stack, Tensor):
        return formula.orthogonalize(stack, *settings)
    in_bfloat16 = narrow(stack)
    if orthogonal.compiles(stack, in_bfloat16):
        source = stack.float().contiguous()
        target = source if own or source is not stack else torch.empty_like(source)
        result = orthogonal.orthogonalize(source, target, settings, in_bfloat16)
        return result if stack.dtype == torch.float32 else result.to(stack.dtype)
    out = torch.empty_like(stack, memory_format=torch.contiguous_format)
    if not stack.numel():
        return out
    steps, coefficients, eps = settings
    source, target = stack.reshape(-1, *stack.shape[-2:]), out.view(-1, *stack.shape[-2:])
    if stack.shape[-2] > stack.shape[-1]:
        source, target = source.mT, target.mT
    count, rows, columns = source.shape
    on_cpu = stack.device.type == "cpu"
    if on_cpu:
        count = min(count, max(1, torch.get_num_threads() * NEAR // (rows * columns)))
    iterate = _by_halves if on_cpu and rows * rows * columns >= WORTH_HALVING else _iterate
    precision = torch.bfloat16 if in_bfloat16 else _precision(stack)
    for some, result in zip(source.split(count), target.split(count), strict=True):
        iterate((some / _lengths(some, eps)).to(precision).contiguous(), result, steps, coefficients)
    return out


def narrow(stack: Tensor) -> bool:
    """Whether the products of Newton-Schulz are computed in bfloat16.

    So it is on CUDA, and on CPUs that multiply bfloat16 faster, if that is compiled. The kind of CPU decides and not a
    measurement, so that a run can be repeated to the bit. On an Intel Xeon with AVX512-BF16 and without matrix units,
    bfloat16 was 1.4 times as slow as float32.
    """
    if stack.dtype == torch.float64 or not stack.is_cpu:
        return stack.dtype != torch.float64 and stack.is_cuda
    short, long = sorted(stack.shape[-2:])
    return short * short * long >= WORTH_NARROWING and _fast_bfloat16() and orthogonal.compiles(stack, narrow=True)


@cache
def _fast_bfloat16() -> bool:
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16")) and str(cpu.get("cpu_name")).startswith("AMD")


def qr(stack: Tensor) -> Tensor:
    """Return the orthogonal factor of each matrix, in float32 at least. stack: (..., k, k)."""
    return formula.qr(stack.to(_precision(stack))).to(stack.dtype)


def eigenbasis(stack: Tensor) -> Tensor:
    """Return the eigenvectors of each symmetric matrix; see `steepest.formula.eigenbasis`. stack: (..., k, k).

    LAPACK sometimes fails to converge in float32 on what it solves in float64, so that is tried before giving up.
    """
    wide = stack.to(_precision(stack))
    try:
        return formula.eigenbasis(wide).to(stack.dtype)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        return formula.eigenbasis(wide.double()).to(stack.dtype)


def _lengths(x: Tensor, eps: float) -> Tensor:
    """Return the Frobenius norm of each matrix, at least eps, (count, 1, 1). Squared in double as the formula does."""
    flat = x.reshape(len(x), -1)
    wide = flat if x.device.type == "mps" else flat.double()
    return wide.norm(dim=1).clamp(min=eps).to(_precision(x)).view(-1, 1, 1)


def _precision(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _iterate(x: Tensor, target: Tensor, steps: int, coefficients: tuple[float, float, float]) -> None:
    """Three batched products for each step. x: (count, m, n), each of length 1 at most."""
    a, b, c = coefficients
    next_x, gram = torch.empty_like(x), x.new_empty(len(x), x.shape[1], x.shape[1])
    polynomial = torch.empty_like(gram)
    for _ in range(steps):
        torch.bmm(x, x.mT, out=gram)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        torch.baddbmm(x, polynomial, x, beta=a, out=next_x)
        x, next_x = next_x, x
    target.copy_(x)


def _by_halves(x: Tensor, target: Tensor, steps: int, coefficients: tuple[float, float, float]) -> None:
    """The same, three of the four quarters of X X^T and of its square, for they are symmetric: 20 products for 24.

    X = [x]   X X^T = [f  g]   a I + b X X^T + c (X X^T)^2 = [q  r]
        [y]           [.  h]                                 [.  s]
    """
    a, b, c = coefficients
    half = x.shape[1] // 2
    x, y = x[:, :half].contiguous(), x[:, half:].contiguous()
    next_x, next_y = torch.empty_like(x), torch.empty_like(y)
    f, g, h = (x.new_empty(len(x), *sides) for sides in ((half, half), (half, y.shape[1]), (y.shape[1], y.shape[1])))
    q, r, s = torch.empty_like(f), torch.empty_like(g), torch.empty_like(h)
    for _ in range(steps):
        torch.bmm(x, x.mT, out=f)
        torch.bmm(x, y.mT, out=g)
        torch.bmm(y, y.mT, out=h)
        torch.baddbmm(f, f, f, beta=b, alpha=c, out=q).baddbmm_(g, g.mT, alpha=c).diagonal(dim1=1, dim2=2).add_(a)
        torch.baddbmm(g, f, g, beta=b, alpha=c, out=r).baddbmm_(g, h, alpha=c)
        torch.baddbmm(h, h, h, beta=b, alpha=c, out=s).baddbmm_(g.mT, g, alpha=c).diagonal(dim1=1, dim2=2).add_(a)
        torch.bmm(q, x, out=next_x).baddbmm_(r, y)
        torch.bmm(r.mT, x, out=next_y).baddbmm_(s, y)
        x, y, next_x, next_y = next_x, next_y, x, y
    target[:, :half] = x
    target[:, half:] = y
