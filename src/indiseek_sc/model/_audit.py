"""Judging the codes of a model by models that never saw its critics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES
from indiseek_sc.metrics import SpecificAuditor
from indiseek_sc.model._codes import CodesMixin

if TYPE_CHECKING:
    from indiseek_sc.metrics import AuditReport


class AuditMixin(CodesMixin):
    """The audit."""

    def audit(self, *, seed: int = 0, auditor: SpecificAuditor | None = None) -> AuditReport:
        """Judge the codes on cells that the model never saw, by probes that never saw the training critics.

        Probes learn on the cells that the model learned from and chose by, and are read on the cells that were held out
        (``held_out`` of :meth:`train`), or on the validation cells if none were.

        Parameters
        ----------
        seed
            Decides the probes' starts.
        auditor
            One that :meth:`make_auditor` made, of this model before stage 2 was trained again or of another one with the same
            shared codes (:meth:`take_over`): what depends on these alone is then probed no second time. It has its own seed.

        Returns
        -------
        Figures by modality; prints as a table. See :func:`indiseek_sc.metrics.audit` for what each means.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require("specific")
        auditor = self.make_auditor(seed=seed) if auditor is None else auditor
        codes = self._encode_by_name("specific", "reconstruction")
        for name in [name for name, code in codes["specific"].items() if code.shape[1] == 0]:
            # An empty code tells as much as a constant one, and what is decoded then was in the shared code alone.
            codes["specific"][name] = codes["reconstruction"][name] = np.zeros((self.adata.n_obs, 1))
        return auditor.report(codes["specific"], codes["reconstruction"])

    def make_auditor(self, *, seed: int = 0) -> SpecificAuditor:
        """Make what judges specific codes beside the shared codes that are there, for :meth:`audit`.

        Parameters
        ----------
        seed
            Decides the probes' starts.

        Raises
        ------
        RuntimeError
            If the shared codes are not trained.
        """
        self._require("shared")
        mdata = self._validate_anndata()
        train, test = self.split.for_judging()
        every = np.arange(mdata.n_obs)
        features = {self.modalities[role]: self._features(mdata, role, every).cpu().numpy() for role in ROLES}
        shared = self._encode_by_name("shared")["shared"]
        return SpecificAuditor(features, shared, train=np.sort(train), test=test, seed=seed)

    def _encode_by_name(self, *kinds: str) -> dict[str, dict[str, np.ndarray]]:
        """Codes of all cells, by kind and by the name of the modality."""
        mdata = self._validate_anndata()
        wanted = [(kind, role) for kind in kinds for role in ROLES]
        codes = dict(zip(wanted, self._encode_all(mdata, np.arange(mdata.n_obs), wanted), strict=True))
        return {kind: {self.modalities[role]: codes[kind, role] for role in ROLES} for kind in kinds}
