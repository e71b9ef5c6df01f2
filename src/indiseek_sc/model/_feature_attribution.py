"""Which genes and proteins drive each dimension of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.data import REGISTRY_KEY, as_row_major, read_input
from indiseek_sc.model._attribution_table import make_table
from indiseek_sc.model._cell_groups import draw_cells, find_groups
from indiseek_sc.model._codes import CodesMixin, Kind, _as_rows
from indiseek_sc.model._decoder_jacobian import DecoderJacobian
from indiseek_sc.model._integrated_gradients import IntegratedGradients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role

AttributionMethod = Literal["decoder_jacobian", "integrated_gradients"]
Values = Literal["normalized", "raw"]

CELLS_FOR_DEVIATIONS = 2_000
"""Standard deviations of codes are those of at most so many cells, drawn at random."""


class FeatureAttributionMixin(CodesMixin):
    """Attribution of the dimensions of codes to features."""

    def feature_attribution(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        kind: Kind = "specific",
        method: AttributionMethod = "decoder_jacobian",
        values: Values = "normalized",
        groups: str | Sequence[Any] | np.ndarray | pd.Series | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        max_cells: int = 500,
        n_steps: int = 32,
        seed: int = 0,
    ) -> pd.DataFrame:
        r"""Say which genes and proteins drive each dimension of a code, by group of cells.

        There are two questions:

        - what changes along a dimension: ``"decoder_jacobian"``, the slope of each decoded feature, in normalised values
          (logarithms of expression, log-ratios of proteins) per standard deviation of the dimension among the cells of
          ``indices``. The other code of the modality is held fixed. This is the one to name a dimension by;
        - what puts cells where they are: ``"integrated_gradients"``, the contribution of each feature to the distance between
          the codes of a cell and of the mean cell (in the batch of the cell), in units of the code. Over features they add
          up to that distance; over all cells they nearly cancel, so give ``groups``, or look at ``magnitude``. What the
          encoder uses to take something *out* of a code contributes too.

        Arrays of cells by features are made in parts of 16 MiB, so memory does not grow with cells; it grows with the table.

        Parameters
        ----------
        mdata
            Cells to look at, as in :meth:`get_latent_representation`.
        modality
            Whose code, by the name in the MuData; both, one after the other, if not given. The joint code is of both.
        kind
            ``"specific"``, ``"shared"`` or ``"joint"``; the last is the slowest, as it has the dimensions of all codes and asks the encoders of both modalities.
        method
            See above; integrated gradients need Captum (extra ``attribution``).
        values
            Whose contributions are measured, for integrated gradients. ``"normalized"`` within the cell: genes that are not
            among the highly variable ones take no part. ``"raw"``: gradients go on through library size or centred
            log-ratio, by which every feature has some influence. That is slower by far.
        groups
            Label of each cell: a column of ``obs``, or one value for each cell of ``mdata``. Cells without a label are left
            out. If not given, one group, ``"all"``.
        indices
            Row numbers of the cells to look at; all if not given.
        max_cells
            At most so many cells of each group, drawn at random. Time grows with them.
        n_steps
            Points on the path of integrated gradients.
        seed
            Decides which cells are drawn.

        Returns
        -------
        One row for each modality, dimension (column of the code, from 0), group and feature: ``modality``, ``kind``,
        ``method``, ``dimension``, ``group``, ``n_cells``, ``feature``, ``attribution`` (mean over the cells of the group),
        its ``standard_error`` (over cells; the model is taken as given; NaN of a single cell), and ``magnitude`` (root mean
        square over cells). For a code as a whole see :func:`indiseek_sc.tl.block_attribution`.

        Raises
        ------
        ValueError
            If an argument is not known or out of range, or no cell has a label.
        KeyError
            If no ``obs`` has a column of that name.
        RuntimeError
            If the stages that make the code, and for the Jacobian its decoder, were not trained.
        ImportError
            If Captum is needed and not installed.
        """
        _check(kind, method, values, max_cells, n_steps)
        roles = self._find_attributed(modality, kind)
        self._require("shared" if (kind, method) == ("shared", "integrated_gradients") else "specific")
        mdata = self._validate_anndata(mdata)
        self.module.eval()
        rows = _as_rows(indices, mdata.n_obs)
        rng = np.random.default_rng(seed)
        cells = draw_cells(find_groups(mdata, groups), rows, max_cells, rng)
        looked_at = np.concatenate(list(cells.values()))

        manager = self.get_anndata_manager(mdata, required=True)
        matrices = {role: as_row_major(manager.get_from_registry(REGISTRY_KEY[role])) for role in roles}
        parts: dict[str, Any] = {"module": self.module, "kind": kind, "matrices": matrices}
        parts["get_batch"] = lambda some: self._batch(mdata, some)
        attributor: DecoderJacobian | IntegratedGradients
        if method == "decoder_jacobian":
            attributor = DecoderJacobian(**parts, deviations=self._deviations(mdata, kind, roles, rows, rng))
        else:
            baseline_rows = looked_at if values == "raw" else None
            attributor = IntegratedGradients(**parts, baseline_rows=baseline_rows, n_steps=n_steps)
        names = {role: np.asarray(read_input(self.registry_, role)[1]["column_names"]) for role in roles}
        table = make_table(attributor, cells, names, self.modalities)
        if isinstance(attributor, IntegratedGradients):
            attributor.warn_if_incomplete()
        for place, (column, name) in enumerate((("kind", kind), ("method", method)), start=1):
            table.insert(place, column, pd.Categorical.from_codes(np.zeros(len(table), dtype=np.int8), [name]))
        return table

    def _find_attributed(self, modality: str | None, kind: str) -> list[Role]:
        """Return the modalities whose features are looked at, in the order of roles."""
        if modality is None:
            return list(ROLES)
        if kind == "joint":
            raise ValueError("modality: the joint code is of both modalities; leave it out, or choose another kind.")
        return [self._find_role(modality)]

    def _deviations(
        self, mdata: MuData, kind: str, roles: list[Role], rows: np.ndarray, rng: np.random.Generator
    ) -> dict[Role, torch.Tensor]:
        """Return the standard deviation of each dimension among cells, whatever their groups."""
        some = rng.permutation(rows)[:CELLS_FOR_DEVIATIONS]
        codes = self._encode_all(mdata, some, [(kind, None if kind == "joint" else role) for role in roles])
        return {role: torch.from_numpy(code.std(axis=0)) for role, code in zip(roles, codes, strict=True)}


def _check(kind: str, method: str, values: str, max_cells: int, n_steps: int) -> None:
    for name, given, known in (
        ("kind", kind, get_args(Kind)),
        ("method", method, get_args(AttributionMethod)),
        ("values", values, get_args(Values)),
    ):
        if given not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, but is {given!r}.")
    if values == "raw" and method == "decoder_jacobian":
        raise ValueError("values='raw': nothing is decoded to raw values; use method='integrated_gradients'.")
    for name, number in (("max_cells", max_cells), ("n_steps", n_steps)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, but is {number}.")
