"""Which input coordinates a code is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from indiseek_sc.data import REGISTRY_KEY, read_coordinates, read_input
from indiseek_sc.metrics import mean_squared_jacobian, permutation_importance, probe_r2
from indiseek_sc.model._codes import CodesMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from indiseek_sc._keys import Role

Method = Literal["jacobian", "permutation", "probe"]
OneModality = Literal["shared", "specific"]


class CoordinateImportanceMixin(CodesMixin):
    """Importance of input coordinates, as in figures 1 and 2 of the paper."""

    def coordinate_importance(
        self,
        *,
        modality: str,
        kind: OneModality = "specific",
        method: Method = "jacobian",
        max_cells: int = 2000,
        n_repeats: int = 5,
        seed: int = 0,
    ) -> pd.DataFrame:
        r"""Say how much of each input coordinate an encoder uses, or how much its code contains.

        A coordinate is a feature of the modality as the model normalises it within a cell, in units of its standard
        deviation; genes that are not among the highly variable ones take no part. There are two questions:

        - what the encoder *uses*: ``"jacobian"``, mean over cells of :math:`\sum_k (\partial z_k / \partial x_j)^2`, and
          ``"permutation"``, how far the code moves when the coordinate is exchanged among cells, as a share of twice the
          variance of the code. The specific encoder also reads the own shared code, which is a function of the same
          coordinates: both paths count, as a total derivative. So a coordinate that is used to take something *out* of the
          code counts too;
        - what the code *contains*: ``"probe"``, held-out R2 with which fresh probes tell the coordinate from the code.

        Cells are those that were held out, or the validation cells if none were; probes learn on the others. How the paper
        measures importance is not known to us in detail; these definitions are ours.

        Parameters
        ----------
        modality
            Whose coordinates and code, by the name in the MuData.
        kind
            ``"specific"`` or ``"shared"``.
        method
            See above. A permutation encodes all cells ``n_repeats`` times for each coordinate.
        max_cells
            At most so many cells to look at, and for probes to learn on, drawn at random. Memory grows with this number
            times that of coordinates (160 MB for 2,000 cells and 20,000 genes), twice that for probes.
        n_repeats
            Exchanges of each coordinate, for ``"permutation"``.
        seed
            Decides which cells, the exchanges and the probes' starts.

        Returns
        -------
        One row a coordinate, in the order of the input: ``coordinate``, ``importance``, ``standard_error`` (over cells; the
        model is taken as given), ``method``, ``kind``, ``modality``.

        Raises
        ------
        ValueError
            If an argument is not known or out of range.
        RuntimeError
            If the stage that makes the code was not trained.
        """
        _check(kind, method, max_cells, n_repeats)
        role = self._find_role(modality)
        self._require(kind)
        mdata = self._validate_anndata()
        self.module.eval()
        looked_at, others = self._draw_cells(max_cells, np.random.default_rng(seed))
        if method == "probe":
            rows = np.concatenate([others, looked_at])
            code = self._encode_all(mdata, rows, [(kind, role)])[0]
            parts = np.split(np.arange(len(rows)), [len(others)])
            importance = probe_r2(code, self._coordinates(mdata, role, rows).cpu().numpy(), *parts, seed=seed)
        else:
            coordinates, components = self._coordinates(mdata, role, looked_at), self.module.transforms[role].components
            encode = self._make_encode(kind, role, self._batch(mdata, looked_at))
            inner = self.module.transforms[role].project(coordinates)
            if method == "permutation":
                settings = {"n_repeats": n_repeats, "seed": seed}
                importance = permutation_importance(encode, inner, coordinates, components, **settings)
            else:
                per_unit = mean_squared_jacobian(encode, inner, components)
                variance = coordinates.double().var(dim=0, correction=0).cpu().numpy()
                importance = type(per_unit)(*(values * variance for values in per_unit))
        table = {"coordinate": self._coordinate_names(role), "importance": importance.value}
        table |= {"standard_error": importance.standard_error}
        return pd.DataFrame({**table, "method": method, "kind": kind, "modality": modality})

    def _draw_cells(self, max_cells: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of cells that the model did not learn from, and of those that it did."""
        seen, unseen = self.split.for_judging()
        unseen, seen = (np.sort(rng.permutation(rows)[:max_cells]) for rows in (unseen, seen))
        return unseen, seen

    def _coordinates(self, mdata: Any, role: Role, rows: np.ndarray) -> Tensor:
        matrix = self.get_anndata_manager(mdata, required=True).get_from_registry(REGISTRY_KEY[role])
        return read_coordinates(self.module.transforms[role], matrix, rows)

    def _coordinate_names(self, role: Role) -> np.ndarray:
        names = np.asarray(read_input(self.registry_, role)[1]["column_names"])
        return names[self.module.transforms[role].features.cpu().numpy()]

    def _make_encode(self, kind: OneModality, role: Role, batch: Tensor) -> Callable[[Tensor, slice], Tensor]:
        """Return the encoder of a code, as a function of features and of which cells they are of."""
        correct = self.module.batch_offsets[role]
        return lambda features, cells: self.module.encode(kind, role, correct(features, batch[cells]), batch[cells])


def _check(kind: str, method: str, max_cells: int, n_repeats: int) -> None:
    if kind not in get_args(OneModality):
        raise ValueError(f"kind must be 'shared' or 'specific', the codes of one modality, but is {kind!r}.")
    if method not in get_args(Method):
        raise ValueError(f"method must be 'jacobian', 'permutation' or 'probe', but is {method!r}.")
    if max_cells < 2:
        raise ValueError(f"max_cells must be at least 2, but is {max_cells}.")
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1, but is {n_repeats}.")
