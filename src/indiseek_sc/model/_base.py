"""What all parts of the model class rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS

from indiseek_sc.data import REGISTRY_KEY, apply_transform
from indiseek_sc.model._setup import SetupMixin
from indiseek_sc.train import Split

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule, Settings


class ModelBase(SetupMixin):
    """The parts of a model, which modality is which, and the way from a MuData to features."""

    module: IndiSeekModule
    settings: Settings
    seed: int
    modalities: dict[Role, str]
    """Names in the MuData."""
    stages_: list[str]
    """The stages that are trained, such as ``"shared"``."""
    split_: dict[str, np.ndarray]
    history_: dict[str, Any] | None
    lambda_: float
    lambda_path_: dict[str, Any] | None
    _preset: str

    @property
    def split(self) -> Split:
        """What the model did with each cell of its data."""
        return Split(**self.split_)

    def _find_role(self, modality: str | None) -> Role:
        names = {name: role for role, name in self.modalities.items()}
        if modality not in names:
            raise ValueError(f"modality: the model knows {' and '.join(map(repr, names))}, not {modality!r}.")
        return names[modality]

    def _require(self, stage: str) -> None:
        if stage not in self.stages_:
            raise RuntimeError(
                f"The {stage} codes are not trained yet. Call model.train() first"
                + (f", or go on with model.train(stages=({stage!r},))." if self.stages_ else ".")
            )

    def _features(self, mdata: MuData, role: Role, rows: np.ndarray) -> torch.Tensor:
        matrix = self.get_anndata_manager(mdata, required=True).get_from_registry(REGISTRY_KEY[role])
        return read_features(self.module, role, matrix, rows, self._batch(mdata, rows))

    def _batch(self, mdata: MuData, rows: np.ndarray) -> torch.Tensor:
        codes = self.get_anndata_manager(mdata, required=True).get_from_registry(REGISTRY_KEYS.BATCH_KEY)
        return torch.from_numpy(np.asarray(codes).reshape(-1)[rows].astype(np.int64)).to(self.module.device)


def read_features(
    module: IndiSeekModule, role: Role, matrix: Any, rows: np.ndarray, batch: torch.Tensor
) -> torch.Tensor:
    """Turn raw values of some cells into what encoders read: features, without what the batch of each cell adds to them.

    Parameters
    ----------
    module
        Its transforms and offsets are fitted.
    role
        Which modality the values are of.
    matrix
        Raw values, shape ``(n_cells, n_input)``.
    rows
        Row numbers, shape ``(n_rows,)``.
    batch
        Batch codes of these rows, shape ``(n_rows,)``.

    Returns
    -------
    Shape ``(n_rows, n_output)``.
    """
    return module.batch_offsets[role](apply_transform(module.transforms[role], matrix, rows), batch)
