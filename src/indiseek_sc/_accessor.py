"""The accessor ``mdata.indiseek``: representations of a MuData as data frames, or as an AnnData."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData, register_mudata_namespace

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import get_latent


@register_mudata_namespace("indiseek")
class IndiSeekAccessor:
    """The representations that :meth:`indiseek_sc.IndiSeek.write_latents` wrote to a MuData.

    Registered as ``mdata.indiseek`` once a part of the package that handles MuData has been used,
    such as ``isk.IndiSeek``, ``isk.read``, ``isk.tl`` or ``isk.datasets``.

    Parameters
    ----------
    mdata
        Data with representations in ``obsm``.

    Examples
    --------
    >>> mdata.indiseek.modalities
    {'rna': 'rna', 'adt': 'adt'}
    >>> mdata.indiseek.specific("rna").shape[0]
    600
    >>> mdata.indiseek.to_anndata()
    AnnData object with n_obs × n_vars = 600 × ...
    """

    def __init__(self, mdata: MuData) -> None:
        self._mdata = mdata

    @property
    def modalities(self) -> dict[str, str]:
        """Names of the modalities by role, ``"rna"`` and ``"adt"``, as the model recorded them.

        Raises
        ------
        KeyError
            If no model has written its representations to the data.
        """
        noted = self._mdata.uns.get(_keys.SETTINGS, {}).get("modalities")
        if noted is None:
            raise KeyError("This MuData has no representations of a model. Call model.write_latents(mdata) first.")
        return {role: str(noted[role]) for role in _keys.ROLES}

    @property
    def joint(self) -> pd.DataFrame:
        """The joint representation, cells in rows and dimensions in columns."""
        return self._frame(_keys.JOINT, "joint")

    def shared(self, modality: str) -> pd.DataFrame:
        """Return the shared representation of a modality.

        Parameters
        ----------
        modality
            Name of the modality in the MuData.

        Returns
        -------
        Cells in rows and dimensions in columns; missing values for cells without this modality.
        """
        return self._frame(_keys.shared(self._name(modality)), f"shared_{modality}")

    def specific(self, modality: str) -> pd.DataFrame:
        """Return the specific representation of a modality.

        Parameters
        ----------
        modality
            Name of the modality in the MuData.

        Returns
        -------
        Cells in rows and dimensions in columns; missing values for cells without this modality.
        """
        return self._frame(_keys.specific(self._name(modality)), f"specific_{modality}")

    def to_anndata(self) -> AnnData:
        """Return the joint representation as an AnnData, for tools that do not read MuData.

        Returns
        -------
        A new object with the joint representation in ``X``, all representations in ``obsm`` under
        the same keys as in the MuData, and ``obs`` of the MuData.
        """
        names = self.modalities.values()
        keys = [_keys.JOINT, *(of(name) for of in (_keys.shared, _keys.specific) for name in names)]
        obsm = {key: get_latent(self._mdata, key, "representation").astype(np.float32) for key in keys}
        joint = self.joint
        return AnnData(
            obsm[_keys.JOINT].copy(), obs=self._mdata.obs.copy(), var=pd.DataFrame(index=joint.columns), obsm=obsm
        )

    def _name(self, modality: str) -> str:
        return check_name("modality", modality, list(self.modalities.values()))

    def _frame(self, key: str, title: str) -> pd.DataFrame:
        values = get_latent(self._mdata, key, f"{title} representation")
        columns = [f"{title}_{number}" for number in range(values.shape[1])]
        return pd.DataFrame(values, index=self._mdata.obs_names, columns=columns)
