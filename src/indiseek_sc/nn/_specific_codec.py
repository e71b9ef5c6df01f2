"""What an encoder and decoder of stage 2 is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpecificCodec(nn.Module, ABC):
    """Encodes features to a specific code, and decodes that with the condition: own shared code, and batch if there is one.

    ``error_scale`` is what the reconstruction error is measured against, in squared units of the features.
    """

    error_scale: Tensor
    standardize: nn.Module
    refinement: nn.Module
    START: ClassVar[tuple[str, ...]] = ("error_scale",)
    """Parts that are set before critics speak; see :meth:`start_state`."""

    is_conditional = False
    """Whether parts ``conditional`` and ``shape`` are trained before the critics judge, as in :class:`ConditionalCodec`."""

    is_refined = False
    """Whether a part ``refinement`` of the decoder is trained after the critics have judged."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("error_scale", torch.ones(()))

    @property
    @abstractmethod
    def used(self) -> Tensor:
        """Numbers of the columns of the code that are in use, shape ``(n_used,)``; the others are 0."""

    @property
    def n_used(self) -> int:
        """Number of dimensions of the code that are in use."""
        return len(self.used)

    @property
    def learner(self) -> nn.Module:
        """The part that learns while the critics judge."""
        return self

    @abstractmethod
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Set from training cells all that has a closed form; ``n_shared`` directions of the condition are shared code."""

    @abstractmethod
    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Compute once what stays fixed while the critics judge, one row a cell."""

    def encode(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Encode, shape ``(n_cells, n_specific)``. In training mode statistics are those of the batch."""
        return self.standardize(self._raw(prepared, condition))

    @abstractmethod
    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is to be reconstructed and what the code reconstructs of it, both ``(n_cells, n_columns)``."""

    def start_state(self) -> dict[str, Tensor]:
        """Return a copy of the state before critics spoke; loaded into a new codec, it brings that to the same start."""
        state = self.state_dict()
        return {name: x.clone() for name, x in state.items() if name.partition(".")[0] in self.START}

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Encode features, shape ``(n_cells, n_features)``."""
        return self.encode(self.prepare(features, condition), condition)

    def decode(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features, shape ``(n_cells, n_features)``, from both codes and nothing else."""
        return self.refine(self.decode_closed(specific, condition), specific, condition)

    @abstractmethod
    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct as :meth:`decode`, without what a part ``refinement`` adds."""

    def refine(self, closed: Tensor, specific: Tensor, condition: Tensor) -> Tensor:
        """Add the refinement, if there is one, to what :meth:`decode_closed` returns."""
        return closed + self.refinement(torch.cat([specific, condition], dim=1)) if self.is_refined else closed

    def start_decoder(self, features: Tensor, specific: Tensor, condition: Tensor) -> None:
        """Set from training cells what has a closed form in the decoder, once the specific codes are there."""

    @torch.no_grad()
    def freeze_statistics(self, prepared: Mapping[str, Tensor], condition: Tensor) -> None:
        """Set the statistics that standardise the code to those of the training cells."""
        if isinstance(self.standardize, nn.BatchNorm1d):
            values = self._raw(prepared, condition)
            statistics = {"running_mean": values.mean(dim=0), "running_var": values.var(dim=0, correction=0)}
            self.standardize.load_state_dict(statistics, strict=False)

    @abstractmethod
    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Return the code before it is standardised."""
