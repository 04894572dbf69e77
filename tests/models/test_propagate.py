"""Propagation is a sparse product: forward, backward, through several hops; and what its normalisations keep."""

from collections.abc import Callable
from operator import matmul

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.propagate import Adjacency, gpu_product, path_adjacency, row_normalised, symmetric_normalised


def random_matrix(targets: int, sources: int, seed: int, density: float = 0.3) -> sp.csr_matrix:
    random = np.random.default_rng(seed)
    return sp.random(targets, sources, density, random_state=random, format="csr", dtype=np.float32)


@pytest.mark.parametrize("product_of", [matmul, gpu_product])
@given(targets=st.integers(1, 12), sources=st.integers(1, 12), dim=st.integers(1, 5), seed=st.integers(0, 1000))
def test_forward_and_backward_are_those_of_the_dense_product(
    product_of: Callable[[Adjacency, torch.Tensor], torch.Tensor],
    device: torch.device,
    targets: int,
    sources: int,
    dim: int,
    seed: int,
) -> None:
    matrix = random_matrix(targets, sources, seed)
    torch.manual_seed(seed)
    x = torch.randn(sources, dim, device=device, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    upstream = torch.randn(targets, dim, device=device)
    product = product_of(Adjacency.from_scipy(matrix).to(device), x)
    product.backward(upstream)
    dense = torch.from_numpy(matrix.toarray()).to(device) @ again
    dense.backward(upstream)
    assert product.shape == (targets, dim)
    torch.testing.assert_close(product, dense)
    torch.testing.assert_close(x.grad, again.grad)


def test_the_gradient_is_that_of_finite_differences_also_where_the_matrix_is_not_symmetric() -> None:
    adjacency = Adjacency.from_scipy(random_matrix(4, 7, seed=3))
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: adjacency @ x, x)


def test_a_gradient_that_is_not_contiguous_is_taken_too() -> None:
    adjacency = Adjacency.from_scipy(random_matrix(4, 7, seed=3))
    x = torch.randn(7, 3, requires_grad=True)
    ((adjacency @ x).T @ torch.ones(4, 2)).sum().backward()
    torch.testing.assert_close(x.grad, 2 * (torch.ones(3, 4) @ torch.from_numpy(dense(adjacency))).T)


@pytest.mark.parametrize("product_of", [matmul, gpu_product])
def test_weights_are_not_rounded_where_mixed_precision_rounds_other_products(
    product_of: Callable[[Adjacency, torch.Tensor], torch.Tensor], device: torch.device
) -> None:
    adjacency = Adjacency.from_scipy(random_matrix(4, 7, seed=3)).to(device)
    x = torch.randn(7, 3, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        found = product_of(adjacency, x)
    torch.testing.assert_close(found, product_of(adjacency, x))


def dense(adjacency: Adjacency) -> np.ndarray:
    return (adjacency @ torch.eye(len(adjacency.backward[0]) - 1)).numpy()


def test_a_path_sends_along_its_first_hop_first() -> None:
    first, second = random_matrix(5, 8, seed=1), random_matrix(3, 5, seed=2)
    x = torch.randn(8, 2)
    sent = path_adjacency((Adjacency.from_scipy(first), Adjacency.from_scipy(second)), x)
    torch.testing.assert_close(sent, torch.from_numpy((second @ first).toarray()) @ x)


def test_edges_are_counted() -> None:
    assert Adjacency.from_scipy(sp.csr_matrix([[0, 2, 0], [1, 0, 3]])).num_edges == 3


def test_row_normalised_makes_means_and_leaves_the_lonely_without_anything() -> None:
    normalised = row_normalised(sp.csr_matrix(np.array([[1, 3], [0, 0]], np.float32))).toarray()
    assert normalised.tolist() == [[0.25, 0.75], [0, 0]]


def test_symmetric_normalised_is_kipf_and_wellings() -> None:
    # Degrees of targets 2, 1, 0 and of sources 1, 2: 1 / sqrt(2 * 1), 1 / sqrt(2 * 2), 1 / sqrt(1 * 2).
    normalised = symmetric_normalised(sp.csr_matrix(np.array([[1, 1], [0, 1], [0, 0]], np.float32))).toarray()
    assert normalised == pytest.approx(np.array([[2**-0.5, 0.5], [0, 2**-0.5], [0, 0]]))
