"""Matrix functions of a formula on stacks of torch tensors, (count, m, n): many matrices of one shape at once."""

import torch
from torch import Tensor

from steepest import formula

# Newton-Schulz on a CPU runs over this many elements at a time, so that what it works on stays near the core; and on
# matrices with at least this short a side it computes the symmetric products by halves. Both found by measurement.
CHUNK = 1 << 19
HALVED = 96


def orthogonalize(stack: Tensor, settings: tuple[int, tuple[float, float, float], float]) -> Tensor:
    """Return each matrix made orthogonal; see `steepest.formula.orthogonalize`. settings: (steps, coefficients, eps).

    Same polynomial, other order of additions. float32 and narrower are computed in float32, on CUDA in bfloat16 as
    torch.optim.Muon does; float64 in float64. On a CPU bfloat16 products were measured slower than float32 ones.
    Nothing waits for the device. Returns a new, contiguous tensor of the dtype of the stack. stack: (..., m, n).
    """
    out = torch.empty_like(stack, memory_format=torch.contiguous_format)
    if not stack.numel():
        return out
    steps, coefficients, eps = settings
    source, result = stack.reshape(-1, *stack.shape[-2:]), out.view(-1, *stack.shape[-2:])
    if stack.shape[-2] > stack.shape[-1]:
        source, result = source.mT, result.mT
    on_cpu = stack.device.type == "cpu"
    iterate = _by_halves if on_cpu and source.shape[-2] >= HALVED else _iterate
    size = max(1, CHUNK // source[0].numel()) if on_cpu else len(source)
    for part, target in zip(source.split(size), result.split(size), strict=True):
        iterate(part, _lengths(part, eps), target, steps, coefficients)
    return out


def _lengths(x: Tensor, eps: float) -> Tensor:
    """Return the Frobenius norm of each matrix, at least eps, (count, 1, 1). Squared in double as the formula does."""
    flat = x.reshape(len(x), -1)
    wide = flat if x.device.type == "mps" else flat.double()
    return wide.norm(dim=1).clamp(min=eps).to(_products(x)).view(-1, 1, 1)


def _products(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _iterate(x: Tensor, length: Tensor, target: Tensor, steps: int, coefficients: tuple[float, float, float]) -> None:
    """Three batched products for each step."""
    a, b, c = coefficients
    narrow = x.device.type == "cuda" and x.dtype != torch.float64
    x = (x / length).to(torch.bfloat16 if narrow else length.dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    target.copy_(x)


def _by_halves(x: Tensor, length: Tensor, target: Tensor, steps: int, coefficients: tuple[float, float, float]) -> None:
    """Keep the upper and the lower half of the rows apart, so that of X X^T and its square, which are symmetric, only
    three of four blocks are computed: 20 block products for each step instead of 24.

        X = [x]   X X^T = [f  g]   a I + b X X^T + c (X X^T)^2 = [q  r]
            [y]           [.  h]                                 [.  s]
    """  # noqa: D205
    a, b, c = coefficients
    half = x.shape[1] // 2
    x, y = (x[:, :half] / length).contiguous(), (x[:, half:] / length).contiguous()
    next_x, next_y = torch.empty_like(x), torch.empty_like(y)
    f, g, h = x.new_empty(len(x), half, half), x.new_empty(len(x), half, y.shape[1]), y.new_empty(len(y), *[y.shape[1]] * 2)
    q, r, s = torch.empty_like(f), torch.empty_like(g), torch.empty_like(h)
    for _ in range(steps):
        torch.bmm(x, x.mT, out=f), torch.bmm(x, y.mT, out=g), torch.bmm(y, y.mT, out=h)
        torch.baddbmm(f, f, f, beta=b, alpha=c, out=q).baddbmm_(g, g.mT, alpha=c).diagonal(dim1=1, dim2=2).add_(a)
        torch.baddbmm(g, f, g, beta=b, alpha=c, out=r).baddbmm_(g, h, alpha=c)
        torch.baddbmm(h, h, h, beta=b, alpha=c, out=s).baddbmm_(g.mT, g, alpha=c).diagonal(dim1=1, dim2=2).add_(a)
        torch.bmm(q, x, out=next_x).baddbmm_(r, y)
        torch.bmm(r.mT, x, out=next_y).baddbmm_(s, y)
        x, y, next_x, next_y = next_x, next_y, x, y
    target[:, :half] = x
    target[:, half:] = y
