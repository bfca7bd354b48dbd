"""NorMuon: Muon whose rows are brought to one length by what they were before."""

from steepest.formula import norm, orthogonalize, row_mean, sqrt
from steepest.formula.matrix import adjusted
from steepest.rule import rule


@rule(paper="Li et al. 2025, arXiv:2510.05491, Algorithm 1", same_as="pytorch_optimizer.NorMuon", matrix=True)
def normuon(
    p, g, m, v: "rows", *, lr=0.02, weight_decay=0.0, momentum=0.95, beta2=0.95, nesterov=True,
    ns_coefficients=(3.4445, -4.7750, 2.0315), eps=1e-10, ns_steps=5, adjust_lr_fn=None,
):  # fmt: skip
    """Muon with a step size for each neuron: rows that the orthogonal step makes long take shorter ones.

    m: running mean of g. v: running mean of the mean square of each row of the orthogonal momentum.
    adjust_lr_fn: as in Muon; "match_rms_adamw" with which a rate found for AdamW serves.
    Departs from the paper, as its authors' code does: Nesterov momentum, and the step keeps the Frobenius norm it had
    (in the paper it is 0.2 sqrt(m n)). Departs from dion: there the momentum is a sum, not a mean, the rate grows with
    sqrt(m / n), and the coefficients change with each iteration.
    Good for: where Muon is, above all wide layers. Bad for: what Muon is bad for.
    """
    p = p * (1 - lr * weight_decay)
    m = momentum * m + (1 - momentum) * g
    u = momentum * m + (1 - momentum) * g if nesterov else m
    o = orthogonalize(u, ns_steps, ns_coefficients)
    v = beta2 * v + (1 - beta2) * row_mean(o * o)
    u = o / (sqrt(v) + eps)
    return p - adjusted(lr, p, adjust_lr_fn) * (norm(o) / (norm(u) + eps)) * u, m, v
