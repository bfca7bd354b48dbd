"""NovoGrad: momentum of gradients, each divided by the root mean square length of its tensor's gradients."""

from steepest.formula import sqrt, square_total, where
from steepest.rule import rule


@rule(
    paper="Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1",
    same_as="pytorch_optimizer.NovoGrad",
    # Numbers: timm's copy of NVIDIA's code.
    worked=([0.5, -2.0, 0.1], [0.99900000002, 1.00155823205469, 1.003811415620042]),
)
def novograd(p, g, m, v: "scalar", *, lr=1e-3, beta1=0.95, beta2=0.98, eps=1e-8, weight_decay=0):
    """SGD with momentum whose gradient is divided, for each tensor, by the running mean of its length.

    m: decaying sum of divided gradients and decay. v: running mean of the squared length of g, one number for a tensor.
    Departs from the paper: v starts at the first gradient that is not 0, as in NVIDIA's code.
    Other libraries: their grad_averaging=True is lr times (1 - beta1) here.
    Good for: speech models, tight memory (one state). Bad for: tensors whose parts differ much in size, as embeddings.
    """
    square = square_total(g)
    v = where(v == 0, square, beta2 * v + (1 - beta2) * square)
    m = beta1 * m + 1 / (sqrt(v) + eps) * g + weight_decay * p
    return p - lr * m, m, v
