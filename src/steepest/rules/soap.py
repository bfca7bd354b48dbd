"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from steepest.formula import column_mean, eigenbasis, is_matrix, qr, sides, sort_columns, sqrt, transpose
from steepest.rule import rule


@rule(paper="Vyas et al. 2024, arXiv:2409.11321, Algorithm 3", same_as="pytorch_optimizer.SOAP", matrix=True)
def soap(
    p, g, m, v, left: "left", right: "right", left_basis: "left", right_basis: "right", *, t, lr=3e-3, beta1=0.95,
    beta2=0.95, shampoo_beta=None, eps=1e-8, weight_decay=0.01, precondition_frequency=10, max_precond_dim=10000,
):  # fmt: skip
    """Turn the gradient until its rows and columns are uncorrelated, and do there what Adam does.

    m: running mean of g. v: running mean of the turned g squared. left, right: running means of g g^T and g^T g.
    left_basis, right_basis: their eigenvectors, renewed every `precondition_frequency` steps.
    shampoo_beta: decay of left and right; None is beta2. max_precond_dim: a longer side is not turned.
    The first step only sets the bases and moves nothing, so that no gradient is turned by itself.
    Departs from the paper, as its authors' code does: the bases are renewed by one power iteration and QR, with the
    columns first sorted by estimated eigenvalue. Departs from that code: m stays unturned, which turns to the same;
    more than two dimensions count as one row for each first index (there each has its own basis); a weight with one
    row or column is a vector and is not turned.
    Good for: few steps of large batches. Bad for: tight memory (2 m n + 2 m m + 2 n n numbers of state).
    """
    rows, columns = sides(p)
    turns_left = is_matrix(p) and rows <= max_precond_dim
    turns_right = is_matrix(p) and columns <= max_precond_dim

    def turned(x):
        x = transpose(left_basis) @ x if turns_left else x
        return x @ right_basis if turns_right else x

    def turned_back(x):
        x = left_basis @ x if turns_left else x
        return x @ transpose(right_basis) if turns_right else x

    k = t - 1
    if k > 0:
        m = beta1 * m + (1 - beta1) * g
        projected = turned(g)
        v = beta2 * v + (1 - beta2) * projected * projected
        step = lr * (1 - beta2**k) ** 0.5 / (1 - beta1**k)
        p = (p - step * turned_back(turned(m) / (sqrt(v) + eps))) * (1 - lr * weight_decay)
    decay = beta2 if shampoo_beta is None else shampoo_beta
    renews = k > 0 and k % precondition_frequency == 0
    if turns_left:
        left = decay * left + (1 - decay) * (g @ transpose(g))
        left_basis, order = _basis(left, left_basis, k, renews)
        v = transpose(sort_columns(transpose(v), order)) if renews else v
    if turns_right:
        right = decay * right + (1 - decay) * (transpose(g) @ g)
        right_basis, order = _basis(right, right_basis, k, renews)
        v = sort_columns(v, order) if renews else v
    return p, m, v, left, right, left_basis, right_basis


def _basis(square, basis, k, renews):
    """Return the basis for the next step, and what its columns were sorted by: eigenvalues, seen from the old one."""
    if k == 0:
        return eigenbasis(square), None
    if not renews:
        return basis, None
    product = square @ basis
    order = column_mean(basis * product)
    return qr(sort_columns(product, order)), order
