"""Judging the codes of a model by models that never saw its critics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES
from indiseek_sc.metrics import audit

if TYPE_CHECKING:
    from indiseek_sc.metrics import AuditReport


class AuditMixin:
    """The audit."""

    def audit(self, *, seed: int = 0) -> AuditReport:
        """Judge the codes on cells that the model never saw, by probes that never saw the training critics.

        Probes learn on the cells that the model learned from and chose by, and are read on the cells that were held out
        (``held_out`` of :meth:`train`), or on the validation cells if none were.

        Parameters
        ----------
        seed
            Decides the probes' starts.

        Returns
        -------
        Figures by modality; prints as a table. See :func:`indiseek_sc.metrics.audit` for what each means.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require("specific")
        mdata = self._validate_anndata()
        train, test = self.split.for_judging()

        rows = np.arange(mdata.n_obs)
        kinds = ("shared", "specific", "reconstruction")
        wanted = [(kind, role) for kind in kinds for role in ROLES]
        codes = dict(zip(wanted, self._encode_all(mdata, rows, wanted), strict=True))
        by_name = {kind: {self.modalities[role]: codes[kind, role] for role in ROLES} for kind in kinds}
        for name in [name for name, code in by_name["specific"].items() if code.shape[1] == 0]:
            # An empty code tells as much as a constant one, and what is decoded then was in the shared code alone.
            by_name["specific"][name] = by_name["reconstruction"][name] = np.zeros((mdata.n_obs, 1))
        features = {self.modalities[role]: self._features(mdata, role, rows).cpu().numpy() for role in ROLES}
        return audit(
            features,
            by_name["shared"],
            by_name["specific"],
            train=np.sort(train),
            test=test,
            decoded=by_name["reconstruction"],
            seed=seed,
        )
