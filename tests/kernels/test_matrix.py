"""The batched matrix functions give the numbers of the formulas, whatever the shape, the size and the dtype."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from steepest import formula
from steepest.kernels import matrix, orthogonal
from steepest.kernels.products import PIECES

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SETTINGS = (5, COEFFICIENTS, 1e-7)
# The last two are large enough to be computed by halves, of which one has sides that cannot be halved evenly.
SHAPES = [(3, 8, 8), (1, 4, 32), (2, 32, 4), (4, 7, 13), (5, 1, 9), (5, 9, 1), (2, 1, 1), (2, 256, 256), (2, 301, 203)]


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Products in float32, whatever is faster on this machine; the tests of the others say so."""
    monkeypatch.setattr(matrix, "_fast_bfloat16", lambda: False)


@pytest.fixture(params=["compiled", "by torch"])
def both(request, monkeypatch):
    """Newton-Schulz compiled, where there is a kernel for this CPU, and by torch operations."""
    if request.param == "by torch":
        monkeypatch.setattr(orthogonal, "compiles", lambda stack, narrow: False)
    elif not orthogonal.compiles(torch.empty(1, 2, 2), narrow=False):
        pytest.skip("no kernel for this CPU")


def expected(stack):
    """The formula, matrix by matrix."""
    return np.stack([formula.orthogonalize(x, *SETTINGS) for x in stack.numpy()])


def law_same_as_formula(function, stack, within=1e-5):
    np.testing.assert_allclose(function(stack, SETTINGS).numpy(), expected(stack), rtol=0, atol=within)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalize_is_the_formula(shape, both):
    law_same_as_formula(matrix.orthogonalize, torch.randn(shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalize_is_the_formula_in_double(shape):
    law_same_as_formula(matrix.orthogonalize, torch.randn(shape, dtype=torch.float64), within=1e-12)


def test_the_law_catches_another_polynomial():
    def breach(stack, settings):
        return matrix.orthogonalize(stack, (settings[0], (3.4445, -4.7750, 2.0325), settings[2]))

    with pytest.raises(AssertionError):
        law_same_as_formula(breach, torch.randn(3, 8, 8))


@given(
    count=st.integers(1, 5), rows=st.integers(1, 12), columns=st.integers(1, 12), halved=st.booleans(),
    exponent=st.integers(-6, 18),
)  # fmt: skip
def test_both_ways_to_iterate_are_the_formula(count, rows, columns, halved, exponent):
    stack = torch.randn(count, rows, columns) * 10.0**exponent
    iterate = matrix._by_halves if halved else matrix._iterate
    short = stack if rows <= columns else stack.mT
    result = torch.empty_like(short, memory_format=torch.contiguous_format)
    iterate(short / matrix._lengths(short, 1e-7), result, *SETTINGS[:2])
    result = result if rows <= columns else result.mT
    np.testing.assert_allclose(result.numpy(), expected(stack), rtol=0, atol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch):
    monkeypatch.setattr(orthogonal, "compiles", lambda stack, narrow: False)
    stack = torch.randn(7, 24, 40)
    whole = matrix.orthogonalize(stack, SETTINGS)
    monkeypatch.setattr(matrix, "NEAR", 1)
    np.testing.assert_allclose(matrix.orthogonalize(stack, SETTINGS).numpy(), whole.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 16, 48), (3, 48, 16), (2, 300, 260)], ids=str)
def test_singular_values_are_about_one(shape, both):
    values = torch.linalg.svdvals(matrix.orthogonalize(torch.randn(shape), SETTINGS))
    assert values.max() < 1.25
    assert values.median() > 0.7


def test_singular_vectors_stay():
    left, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
    values = torch.linspace(0.1, 1, 12, dtype=torch.float64)
    turned = left.T @ matrix.orthogonalize((left * values) @ right.T, SETTINGS) @ right
    assert (turned - turned.diag().diag()).abs().max() < 1e-12


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e15, 1e25, 1e35])
def test_the_length_of_a_matrix_does_not_matter(scale, both):
    # 1e25 squared is not a float32.
    stack = torch.randn(3, 8, 8)
    np.testing.assert_allclose(
        matrix.orthogonalize(stack * scale, SETTINGS).numpy(), expected(stack), rtol=0, atol=1e-5
    )  # fmt: skip


def test_a_zero_matrix_stays_zero_and_a_tiny_one_tiny(both):
    assert not matrix.orthogonalize(torch.zeros(2, 8, 8), SETTINGS).any()
    tiny = matrix.orthogonalize(torch.full((1, 8, 8), 1e-20), SETTINGS)
    assert 0 < tiny.abs().max() < 1e-9


@pytest.mark.parametrize("size", [8, 300])
def test_a_broken_matrix_breaks_no_other(size, both):
    stack = torch.randn(3, size, size)
    healthy = matrix.orthogonalize(stack, SETTINGS)
    stack[1, 2, 3] = torch.nan
    broken = matrix.orthogonalize(stack, SETTINGS)
    assert broken[1].isnan().all()
    assert torch.equal(broken[[0, 2]], healthy[[0, 2]])


@pytest.mark.parametrize("shape", [(0, 8, 8), (3, 0, 8), (3, 8, 0)], ids=str)
def test_an_empty_stack_is_returned_empty(shape, both):
    assert matrix.orthogonalize(torch.empty(shape), SETTINGS).shape == shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_computed_in_float32(dtype, both):
    stack = torch.randn(2, 12, 20).to(dtype)
    result = matrix.orthogonalize(stack, SETTINGS)
    assert result.dtype == dtype
    assert torch.equal(result, matrix.orthogonalize(stack.float(), SETTINGS).to(dtype))


def test_any_strides_are_read_and_contiguous_ones_returned(both):
    stack = torch.randn(3, 20, 12)
    transposed, strided = stack.mT, torch.randn(3, 20, 24)[..., ::2]
    for x in (transposed, strided, stack[0]):
        result = matrix.orthogonalize(x, SETTINGS)
        assert result.is_contiguous()
        np.testing.assert_allclose(
            result.numpy(), formula.orthogonalize(x.contiguous(), *SETTINGS).numpy(), rtol=0, atol=1e-5
        )  # fmt: skip


def test_the_stack_is_left_alone(both):
    stack = torch.randn(2, 300, 300)
    before = stack.clone()
    matrix.orthogonalize(stack, SETTINGS)
    assert torch.equal(stack, before)


def test_a_stack_that_is_not_needed_may_become_the_result(both):
    stack = torch.randn(3, 20, 50)
    expected = matrix.orthogonalize(stack, SETTINGS)
    assert torch.equal(matrix.orthogonalize(stack, SETTINGS, own=True), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cuda_agrees_with_torch_muon(shape):
    from torch.optim._muon import _zeropower_via_newtonschulz as in_bfloat16

    stack = torch.randn(shape, device="cuda")
    result = matrix.orthogonalize(stack, SETTINGS)
    theirs = torch.stack([in_bfloat16(x, COEFFICIENTS, 5, 1e-7) for x in stack]).float()
    assert (result - theirs).norm() < 0.03 * theirs.norm()


def compiled(stack, settings, narrow):
    return orthogonal.orthogonalize(stack, torch.empty_like(stack), settings, narrow)


def momenta(count, rows, columns, rank, exponent):
    """Means of outer products, whose singular values fall like a power; of low rank, where there are few of them."""
    left, right = torch.randn(count, rows, rank), torch.randn(count, rank, columns)
    return left * torch.arange(1.0, rank + 1) ** -exponent @ right


def error(result, exact):
    return (result - exact).norm() / exact.norm()


needs_bfloat16 = pytest.mark.skipif(
    not orthogonal.compiles(torch.empty(1, 2, 2), narrow=True), reason="this CPU does not multiply bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 40, 100), (2, 100, 40), (1, 256, 256), (1, 17, 301)], ids=str)
@pytest.mark.parametrize(("rank", "exponent"), [(400, 0), (400, 1), (400, 2), (12, 1)])
def test_narrow_products_are_as_good_as_torchs(shape, rank, exponent, monkeypatch):
    from torch.optim._muon import _zeropower_via_newtonschulz as in_bfloat16

    monkeypatch.setattr(matrix, "_fast_bfloat16", lambda: True)
    stack = momenta(*shape, rank, exponent)
    result = matrix.orthogonalize(stack, SETTINGS)
    exact = torch.from_numpy(expected(stack.double()))
    theirs = torch.stack([in_bfloat16(x, COEFFICIENTS, 5, 1e-7) for x in stack])
    assert result.dtype == torch.float32
    assert 1e-4 < error(result, exact) < 1.1 * error(theirs, exact)


@pytest.mark.parametrize("narrow", [False, pytest.param(True, marks=needs_bfloat16)])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 33), (48, 48), (80, 20), (150, 210)], ids=str)
def test_compiled_a_matrix_has_the_same_result_in_any_company(shape, narrow, monkeypatch):
    stack = torch.randn(5, *shape)
    if not orthogonal.compiles(stack, narrow):
        pytest.skip("no kernel for this CPU")
    alone = torch.cat([compiled(stack[place : place + 1], SETTINGS, narrow) for place in range(5)])
    before = torch.get_num_threads()
    try:
        for threads, large in ((1, 0), (2, 1 << 62), (2, 0), (3, 0)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(orthogonal, "LARGE", large)
            assert torch.equal(compiled(stack, SETTINGS, narrow), alone), (threads, large)
            assert torch.equal(compiled(stack[0], SETTINGS, narrow), alone[0])
    finally:
        torch.set_num_threads(before)


def anew(function):
    """Call a function in a thread, which makes its own order sheets."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("shape", [(9, 20), (64, 64), (100, 150)], ids=str)
def test_compiled_for_any_registers_the_numbers_are_the_same(shape, piece, monkeypatch):
    stack = torch.randn(2, *shape)
    if not orthogonal.compiles(stack, narrow=False):
        pytest.skip("no kernel for this CPU")
    result = compiled(stack, SETTINGS, False)
    monkeypatch.setattr(orthogonal, "_piece", lambda narrow: piece)
    assert torch.equal(anew(lambda: compiled(stack, SETTINGS, False)), result)


def test_compiled_two_threads_of_python_do_not_meet():
    stacks = [torch.randn(2, 96, 96) for _ in range(4)]
    if not orthogonal.compiles(stacks[0], narrow=False):
        pytest.skip("no kernel for this CPU")
    alone = [compiled(stack, SETTINGS, False) for stack in stacks]
    with ThreadPoolExecutor(4) as executor:
        for _ in range(20):
            found = executor.map(lambda stack: compiled(stack, SETTINGS, False), stacks)
            assert all(map(torch.equal, found, alone))


@pytest.mark.parametrize("steps", [0, 1, 3, 8])
def test_any_number_of_steps_is_the_formula(steps, both):
    stack = torch.randn(2, 20, 37)
    exact = formula.orthogonalize(stack.double(), steps, *SETTINGS[1:])
    assert error(matrix.orthogonalize(stack, (steps, *SETTINGS[1:])), exact) < 1e-5


def test_only_large_matrices_of_float32_are_multiplied_narrow(monkeypatch):
    monkeypatch.setattr(matrix, "_fast_bfloat16", lambda: True)
    monkeypatch.setattr(orthogonal, "compiles", lambda stack, narrow: True)
    assert matrix.narrow(torch.empty(1, 32, 32))
    assert matrix.narrow(torch.empty(1, 1024, 6)) == matrix.narrow(torch.empty(1, 6, 1024))
    assert not matrix.narrow(torch.empty(1000, 31, 32))
    assert not matrix.narrow(torch.empty(1, 32, 32, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_qr_is_orthogonal(dtype):
    q = matrix.qr(torch.randn(3, 6, 6, dtype=torch.float64).to(dtype))
    assert q.dtype == dtype
    within = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    assert (q.mT.double() @ q.double() - torch.eye(6)).abs().max() < within


def test_eigenbasis_sorts_the_largest_first():
    x = torch.randn(3, 6, 6, dtype=torch.float64)
    square = x @ x.mT
    basis = matrix.eigenbasis(square)
    diagonal = basis.mT @ square @ basis
    values = diagonal.diagonal(dim1=1, dim2=2)
    assert (diagonal - torch.diag_embed(values)).abs().max() < 1e-10
    assert (values.diff() <= 0).all()


def test_eigenbasis_of_a_broken_matrix_is_nan_and_no_error():
    stack = torch.eye(4).repeat(3, 1, 1)
    stack[1, 0, 0] = torch.inf
    basis = matrix.eigenbasis(stack)
    assert basis[1].isnan().all()
    assert basis[[0, 2]].isfinite().all()


def test_eigenbasis_tries_again_in_double(monkeypatch):
    real = formula.eigenbasis

    def fails_in_float32(x):
        if x.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return real(x)

    monkeypatch.setattr(formula, "eigenbasis", fails_in_float32)
    basis = matrix.eigenbasis(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
    assert basis.dtype == torch.float32
    assert basis.abs().argmax(0).tolist() == [1, 2, 0]
