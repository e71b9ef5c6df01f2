"""What a trained model says of cells."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from indiseek_sc import _keys
from indiseek_sc._keys import ROLES
from indiseek_sc.model._base import ModelBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role

Kind = Literal["shared", "specific", "joint"]

CELLS_AT_ONCE = 65_536
"""Cells whose features are held at once while codes are computed."""


class CodesMixin(ModelBase):
    """Codes of cells, of the model's own data or any other with the same features."""

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        kind: Kind = "joint",
        modality: str | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Return codes of cells.

        Parameters
        ----------
        mdata
            Cells to encode, with the features that the model was set up with; the model's own data if not given.
        kind
            ``"shared"`` (what the other modality knows too), ``"specific"`` (what it does not), or ``"joint"`` (both of both
            modalities, made for neighbours and clusters).
        modality
            Whose code, by the name in the MuData; needed for all but the joint code.
        indices
            Row numbers of the cells, in any order; all if not given.

        Returns
        -------
        Codes, float32, shape ``(n_cells, n_dimensions)``, rows in the order of ``indices``. A shared code has its directions
        in the order of how much they are shared; each dimension of a specific code has unit variance in the training cells.

        Raises
        ------
        ValueError
            If the modality or the kind is unknown.
        RuntimeError
            If the stage that makes the code was not trained.
        """
        if kind == "joint":
            if modality is not None:
                raise ValueError(
                    "modality: the joint code is of both modalities; leave it out, or choose another kind."
                )
            return self._encode(mdata, indices, "joint")[0]
        if kind not in ("shared", "specific"):
            raise ValueError(f"kind must be 'shared', 'specific' or 'joint', but is {kind!r}.")
        return self._encode(mdata, indices, kind, self._find_role(modality))[0]

    def get_reconstruction(
        self,
        mdata: MuData | None = None,
        *,
        modality: str,
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Return what the two codes of a modality decode to.

        Parameters
        ----------
        mdata
            As in :meth:`get_latent_representation`.
        modality
            Which modality, by its name in the MuData.
        indices
            As in :meth:`get_latent_representation`.

        Returns
        -------
        Features decoded from the specific and the shared code of the modality and nothing else (but the batch), shape
        ``(n_cells, n_features)``: principal components of RNA, standardised log-ratios of proteins; see :meth:`get_features`.
        """
        return self._encode(mdata, indices, "reconstruction", self._find_role(modality))[0]

    def get_features(
        self,
        mdata: MuData | None = None,
        *,
        modality: str,
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the features that the model works on, in the space of :meth:`get_reconstruction`.

        Parameters
        ----------
        mdata
            As in :meth:`get_latent_representation`.
        modality
            Which modality, by its name in the MuData.
        indices
            As in :meth:`get_latent_representation`.

        Returns
        -------
        Shape ``(n_cells, n_features)``; without what the batch of a cell adds to them, if there are batches.
        """
        role = self._find_role(modality)
        self._require("shared")
        mdata = self._validate_anndata(mdata)
        rows = _as_rows(indices, mdata.n_obs)
        return self._features(mdata, role, rows).cpu().numpy()

    def write_latents(self, mdata: MuData | None = None) -> None:
        """Write all codes to ``mdata.obsm``; the one method that writes.

        Adds ``X_indiseek`` (joint), ``X_indiseek_shared_<modality>`` and ``X_indiseek_specific_<modality>`` to ``obsm``, the
        model's settings to ``uns["indiseek"]``, and for the model's own data ``obs["indiseek_split"]``.

        Parameters
        ----------
        mdata
            As in :meth:`get_latent_representation`.
        """
        self._require("specific")
        mdata = self._validate_anndata(mdata)
        wanted: list[tuple[str, Role | None]] = [
            ("joint", None),
            *((k, r) for k in ("shared", "specific") for r in ROLES),
        ]
        codes = self._encode_all(mdata, np.arange(mdata.n_obs), wanted)  # all of them before anything is written
        key_of = {"shared": _keys.shared, "specific": _keys.specific}
        for (kind, role), code in zip(wanted, codes, strict=True):
            mdata.obsm[_keys.JOINT if role is None else key_of[kind](self.modalities[role])] = code
        mdata.uns[_keys.SETTINGS] = {
            "modalities": dict(self.modalities),
            "version": version("indiseek_sc"),
            "settings": {
                **{name: value for name, value in vars(self.settings).items() if name != "lambda_"},
                "independence": "+".join(self.module.critics["rna"].critics),  # objects cannot be written to a file
                "lambda": self.lambda_,
                "seed": self.seed,
            },
        }
        if mdata is self.adata:
            mdata.obs[_keys.SPLIT] = pd.Categorical(self.split.as_column(), categories=["train", "validation", "test"])

    def _encode(self, mdata: MuData | None, indices: Any, kind: str, role: Role | None = None) -> list[np.ndarray]:
        self._require("shared" if kind == "shared" else "specific")
        mdata = self._validate_anndata(mdata)
        return self._encode_all(mdata, _as_rows(indices, mdata.n_obs), [(kind, role)])

    @torch.inference_mode()
    def _encode_all(
        self, mdata: MuData, rows: np.ndarray, wanted: Sequence[tuple[str, Role | None]]
    ) -> list[np.ndarray]:
        self.module.eval()
        parts: list[list[np.ndarray]] = [[] for _ in wanted]
        for chunk in np.array_split(rows, max(1, -(-rows.size // CELLS_AT_ONCE))):
            features = {role: self._features(mdata, role, chunk) for role in ROLES}
            codes = self.module.describe(features, self._batch(mdata, chunk))
            for part, (kind, role) in zip(parts, wanted, strict=True):
                part.append((codes[kind] if role is None else codes[kind][role]).cpu().numpy())
        return [np.concatenate(part) for part in parts]


def _as_rows(indices: Sequence[int] | np.ndarray | None, n_cells: int) -> np.ndarray:
    """Return row numbers; a mask is taken as the rows where it is true."""
    if indices is None:
        return np.arange(n_cells)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise ValueError(f"indices: a mask needs one value a cell ({n_cells}), but has shape {rows.shape}.")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return rows.reshape(-1).astype(int)
    if not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"indices must be whole row numbers or a mask, but are of type {rows.dtype}.")
    if rows.min() < -n_cells or rows.max() >= n_cells:
        raise ValueError(
            f"indices must lie below the number of cells, {n_cells}, but reach {rows.min()} to {rows.max()}."
        )
    return np.where(rows < 0, rows + n_cells, rows)
