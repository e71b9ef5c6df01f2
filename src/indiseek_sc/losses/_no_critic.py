"""Asking for no independence at all."""

from __future__ import annotations

from torch import Tensor

from indiseek_sc.losses._independence import IndependenceCritic


class NoCritic(IndependenceCritic):
    """Asks nothing of a specific code, for ablations.

    Parameters
    ----------
    n_specific
        Columns of the specific code; not needed.
    n_condition
        Columns of the condition; not needed.
    """

    name = "none"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return 0."""
        return specific.new_zeros(())
