"""What an independence critic is, and their sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


class IndependenceCritic(nn.Module, ABC):
    r"""Estimates how much a specific code :math:`Z` tells of a condition :math:`C`.

    It plays two parts, with parameters that only the first one moves: ``critic_loss`` is minimised by the critic's own
    optimiser, ``bound`` by the encoder. The bound of a critic that learns means something only while the critic keeps up
    with the encoder. A term that has no parameters needs ``bound`` alone.
    """

    @property
    def learns(self) -> bool:
        """Whether there are parameters to train."""
        return next(self.parameters(), None) is not None

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Loss that teaches the critic, scalar; codes of shapes ``(n_cells, n_specific)`` and ``(n_cells, n_condition)``."""
        if self.learns:
            raise NotImplementedError(f"{type(self).__name__} has parameters, so it must define critic_loss.")
        return specific.new_zeros(())

    @abstractmethod
    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Estimate of the mutual information in nats, scalar; the encoder makes it small."""

    def bounds(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the bound by its name; a sum returns one for each critic."""
        return {self.name: self.bound(specific, condition)}

    name: str = "bound"


class CriticSum(IndependenceCritic):
    """Sum of critics: each sees dependence that another is blind to.

    Parameters
    ----------
    critics
        The critics, by name.
    """

    name = "sum"

    def __init__(self, critics: Mapping[str, IndependenceCritic]) -> None:
        super().__init__()
        if not critics:
            raise ValueError("critics: at least one is needed.")
        self.critics = nn.ModuleDict(dict(critics))

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' losses; their parameters are disjoint, so one optimiser serves all."""
        return torch.stack([critic.critic_loss(specific, condition) for critic in self.critics.values()]).sum()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' bounds."""
        return torch.stack(list(self.bounds(specific, condition).values())).sum()

    def bounds(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the bound of each critic by name."""
        return {name: critic.bound(specific, condition) for name, critic in self.critics.items()}


CriticFactory = Callable[[int, int], IndependenceCritic]
"""Makes a critic from ``n_specific`` and ``n_condition``."""


def make_critic(name: str, n_specific: int, n_condition: int) -> CriticSum:
    """Build the critics of a name such as ``"gaussian+nce"``.

    Parameters
    ----------
    name
        Names of critics joined by ``+``: ``gaussian``, ``nce``, ``gaussian_bounded`` (the published recipe's),
        ``nce_concatenated``, ``orthogonality``, and ``none``.
    n_specific
        Columns of the specific code.
    n_condition
        Columns of the condition.

    Raises
    ------
    ValueError
        If a name is unknown, or given twice.
    """
    from indiseek_sc.losses._gaussian_club import GaussianCritic
    from indiseek_sc.losses._nce_club import NCECritic
    from indiseek_sc.losses._nce_club_concatenated import ConcatenatedNCECritic
    from indiseek_sc.losses._no_critic import NoCritic
    from indiseek_sc.losses._orthogonality import OrthogonalityCritic

    factories: dict[str, CriticFactory] = {
        "gaussian": GaussianCritic,
        "gaussian_bounded": lambda *sizes: GaussianCritic(*sizes, bounded_variance=True),
        "nce": NCECritic,
        "nce_concatenated": ConcatenatedNCECritic,
        "none": NoCritic,
        "orthogonality": OrthogonalityCritic,
    }
    names = name.split("+")
    if unknown := [part for part in names if part not in factories]:
        raise ValueError(f"independence: unknown critic {unknown[0]!r} in {name!r}. There are {', '.join(factories)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"independence: {name!r} names a critic twice.")
    return CriticSum({part: factories[part](n_specific, n_condition) for part in names})
