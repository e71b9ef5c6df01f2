from __future__ import annotations

import torch

from indiseek_sc.nn import Whitening


def make_whitening(n_cells: int = 5, n_columns: int = 4) -> Whitening:
    torch.manual_seed(0)
    n_mixing = n_columns * (n_columns - 1) // 2
    return Whitening(*(torch.randn(n_cells, n, dtype=torch.float64) for n in (n_columns, n_columns, n_mixing)))


def test_it_agrees_with_a_loop_over_cells_and_columns():
    whitening = make_whitening()
    values = torch.randn(5, 4, dtype=torch.float64)
    whitened = whitening.whiten(values)
    for cell in range(5):
        scaled = [(values[cell, j] - whitening.mean[cell, j]) / whitening.log_scale[cell, j].exp() for j in range(4)]
        for row in range(4):
            first = row * (row - 1) // 2
            mixed = sum(whitening.mixing[cell, first + column] * scaled[column] for column in range(row))
            torch.testing.assert_close(whitened[cell, row], scaled[row] + mixed)


def test_unwhitening_undoes_it():
    whitening = make_whitening()
    values = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(whitening.unwhiten(whitening.whiten(values)), values)


def test_a_true_decomposition_whitens_correlated_draws():
    torch.manual_seed(0)
    mixed = torch.randn(3, 3, dtype=torch.float64)
    covariance = mixed @ mixed.T + torch.eye(3, dtype=torch.float64)
    values = 2 + torch.randn(200_000, 3, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    # covariance = (L^-1 D)(L^-1 D)^T with L of unit diagonal
    root = torch.linalg.cholesky(covariance)
    scale = root.diagonal()
    lower = torch.linalg.inv(root / scale)
    # L acts on values that are divided by the scale first, so its entries go over to those units.
    lower = lower * scale / scale[:, None]
    rows, columns = torch.tril_indices(3, 3, -1)
    whitening = Whitening(torch.full((3,), 2.0, dtype=torch.float64), scale.log(), lower[rows, columns])
    whitened = whitening.whiten(values)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(3, dtype=torch.float64), atol=0.02, rtol=0)


def test_one_column_needs_no_mixing():
    whitening = Whitening(torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.zeros(1, 0))
    values = torch.tensor([[3.0]])
    assert whitening.whiten(values).item() == 2
    assert torch.equal(whitening.unwhiten(whitening.whiten(values)), values)
