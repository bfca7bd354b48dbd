"""Muon: momentum, made orthogonal."""

from steepest.formula import orthogonalize
from steepest.formula.matrix import adjusted
from steepest.rule import rule


@rule(paper="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon", same_as="torch.optim.Muon", matrix=True)
def muon(
    p, g, m, *, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.7750, 2.0315),
    eps=1e-7, ns_steps=5, adjust_lr_fn=None,
):  # fmt: skip
    """Move a matrix by lr in all directions of its momentum at once: all singular values of the step are about 1.

    m: running mean of g.
    adjust_lr_fn: how lr grows with the sides of the matrix: "original" (None) sqrt(max(1, m / n)); "match_rms_adamw"
    0.2 sqrt(max(m, n)), with which a rate found for AdamW serves.
    More than two dimensions count as one row for each first index (torch refuses them).
    Departs from torch.optim.Muon: nowhere but in precision, for torch computes the products in bfloat16 on every
    device; here they are float32 on a CPU, but for those of AMD with AVX512-BF16. Departs from other libraries: the
    same lr is another step there, for they scale by shape and choose coefficients otherwise (timm 1.1,
    pytorch_optimizer 0.8, HeavyBall 0.6 times this step).
    Good for: hidden weights of any network. Bad for: embeddings, heads, biases and gains: give them to AdamW, as
    `steepest.groups` does.
    """
    p = p * (1 - lr * weight_decay)
    m = momentum * m + (1 - momentum) * g
    u = momentum * m + (1 - momentum) * g if nesterov else m
    return p - adjusted(lr, p, adjust_lr_fn) * orthogonalize(u, ns_steps, ns_coefficients, eps), m
