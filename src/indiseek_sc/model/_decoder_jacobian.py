"""How decoded features change along the dimensions of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.model._base import read_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    import numpy as np
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

    Slopes = Iterator[tuple[Role, int, Tensor]]
    """Modality, dimension, and what each cell has for each feature, shape ``(n_cells, n_features)``."""


class DecoderJacobian:
    r"""Slopes of decoded features along the dimensions of a code, :math:`\sigma_k\, \partial \hat y_j / \partial z_k`.

    :math:`\hat y` is in normalised values (logarithms of expression, log-ratios of proteins), to which a slope of decoded
    principal components is taken back through their axes. The other code of the modality and the batch stay as they are.
    For the joint code, which nothing is decoded from, slopes are those of its principal components, the same in every cell.

    Parameters
    ----------
    module
        The trained module.
    kind
        ``"shared"``, ``"specific"`` or ``"joint"``.
    matrices
        Raw values of each modality that is looked at.
    deviations
        :math:`\sigma_k` of each modality's code (or of the joint one), shape ``(n_dimensions,)``: slopes are per standard deviation.
    get_batch
        Batch codes of rows.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        kind: str,
        matrices: Mapping[Role, Any],
        deviations: Mapping[Role, Tensor],
        get_batch: Callable[[np.ndarray], Tensor],
    ) -> None:
        self.module = module
        self.kind = kind
        self.matrices = matrices
        self.deviations = deviations
        self.get_batch = get_batch
        self.columns: dict[Role, np.ndarray] = {
            role: module.transforms[role].features.cpu().numpy() for role in matrices
        }
        self.widest_row = max(columns.size for columns in self.columns.values())

    @torch.no_grad()
    def attribute(self, rows: np.ndarray) -> Slopes:
        """Yield the slopes in some cells."""
        for role, matrix in self.matrices.items():
            slopes = self._of_joint(role, rows) if self.kind == "joint" else self._of_one(role, matrix, rows)
            for dimension, slope in enumerate(slopes):
                yield role, dimension, self.module.transforms[role].undo_change(slope)

    def _of_one(self, role: Role, matrix: Any, rows: np.ndarray) -> Iterator[Tensor]:
        module, batch = self.module, self.get_batch(rows)
        features = read_features(module, role, matrix, rows, batch)
        shared = module.shared(role, features)
        condition = module.condition(role, shared, batch)
        specific = module.specific(role, features, condition)

        def decode(moved: Tensor) -> Tensor:
            if self.kind == "specific":
                return module.codecs[role].decode(moved, condition)
            return module.codecs[role].decode(specific, module.condition(role, moved, batch))

        is_specific = self.kind == "specific"
        place = specific if is_specific else shared
        # A code is given without the columns that are not in use.
        columns = module.codecs[role].used.tolist() if is_specific else range(module.rotations[role].n_kept)
        for column, deviation in zip(columns, self.deviations[role].tolist(), strict=True):
            direction = torch.zeros_like(place)
            direction[:, column] = deviation
            # Forward mode: one pass for each dimension of the code, which has fewer than the features have.
            yield torch.func.jvp(decode, (place,), (direction,))[1]

    def _of_joint(self, role: Role, rows: np.ndarray) -> Iterator[Tensor]:
        module, place = self.module, ROLES.index(role)
        widths = [module.n_features[other] for other in ROLES]
        loadings = module.joint.principal.components.split(widths)[place] / module.joint.scales[place]
        for loading, deviation in zip(loadings.T, self.deviations[role].tolist(), strict=True):
            yield (loading * deviation).expand(rows.size, -1)
