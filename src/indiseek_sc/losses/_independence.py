"""What an independence critic is, and their sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn import NamedModules

if TYPE_CHECKING:
    from collections.abc import Mapping


class IndependenceCritic(nn.Module, ABC):
    r"""Estimates how much a specific code :math:`Z` tells of a condition :math:`C`.

    It plays two parts, with parameters that only the first one moves: ``critic_loss`` is minimised by the critic's own
    optimiser, ``bound`` by the encoder. The bound of a critic that learns means something only while the critic keeps up
    with the encoder. A term that has no parameters needs ``bound`` alone.
    """

    name: str = ""
    """How the critic is called in histories; the name of the class where it is empty."""

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
        """Estimate of the dependence, scalar, 0 where there is none; the encoder makes it small. In nats but for kernel terms."""

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return further figures that tell how good the critic is, scalars by name; they are not trained on."""
        return {}


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
        self.critics = NamedModules(critics)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' losses; their parameters are disjoint, so one optimiser serves all."""
        losses = self.losses(specific, condition)
        return torch.stack(list(losses.values())).sum() if losses else super().critic_loss(specific, condition)

    def losses(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the loss of each critic that learns, by name."""
        return {name: critic.critic_loss(specific, condition) for name, critic in self.critics.items() if critic.learns}

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' bounds."""
        return torch.stack(list(self.bounds(specific, condition).values())).sum()

    def bounds(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the bound of each critic by name."""
        return {name: critic.bound(specific, condition) for name, critic in self.critics.items()}

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the figures of each critic, behind its name."""
        return {
            f"{name}_{figure}": value
            for name, critic in self.critics.items()
            for figure, value in critic.diagnostics(specific, condition).items()
        }
