"""Whitening of one vector in the light of another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def below_diagonal(n_columns: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return row and column numbers of the entries below the diagonal of a square matrix, row by row."""
    rows, columns = torch.tril_indices(n_columns, n_columns, -1, device=device)
    return rows, columns


class Whitening(NamedTuple):
    r"""An affine map for each cell, :math:`z = L\,(y - \mu) / \sigma`, with :math:`L` lower triangular and of unit diagonal.

    If :math:`y` is Gaussian with this mean and with precision :math:`D^{-1} L^\top L D^{-1}`, :math:`D = \operatorname{diag}\sigma`, then
    :math:`z` is standard normal. The first column of :math:`z` is the first of :math:`y`, standardised; each further column is what
    the columns before it leave of it (Pourahmadi 1999, Biometrika 86, 677: the modified Cholesky decomposition).

    Parameters
    ----------
    mean
        :math:`\mu`, shape ``(..., n_columns)``.
    log_scale
        :math:`\log\sigma`, shape ``(..., n_columns)``.
    mixing
        The entries of :math:`L` below its diagonal, row by row, shape ``(..., n_columns * (n_columns - 1) / 2)``.
    """

    mean: Tensor
    log_scale: Tensor
    mixing: Tensor

    def _mixing_matrix(self) -> Tensor:
        """Return L less its diagonal, shape ``(..., n_columns, n_columns)``."""
        n = self.log_scale.shape[-1]
        matrix = self.mixing.new_zeros(*self.mixing.shape[:-1], n, n)
        rows, columns = below_diagonal(n, self.mixing.device)
        matrix[..., rows, columns] = self.mixing
        return matrix

    def matrix(self) -> Tensor:
        """Return the matrix of the map, :math:`L D^{-1}`, shape ``(..., n_columns, n_columns)``."""
        eye = torch.eye(self.log_scale.shape[-1], dtype=self.mixing.dtype, device=self.mixing.device)
        return (self._mixing_matrix() + eye) * (-self.log_scale).exp()[..., None, :]

    def whiten(self, values: Tensor) -> Tensor:
        """Return z, shape ``(..., n_columns)``."""
        scaled = (values - self.mean) * (-self.log_scale).exp()
        return scaled + (self._mixing_matrix() @ scaled[..., None])[..., 0]

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """Return the values that :meth:`whiten` takes to ``whitened``, shape ``(..., n_columns)``."""
        scaled = torch.linalg.solve_triangular(
            self._mixing_matrix(), whitened[..., None], upper=False, unitriangular=True
        )
        return self.mean + self.log_scale.exp() * scaled[..., 0]

    def negative_log_likelihood(self, values: Tensor) -> Tensor:
        """Minus the Gaussian log-density of each row, up to a constant, in nats, shape ``(...,)``."""
        return (self.whiten(values).square() / 2 + self.log_scale).sum(dim=-1)
