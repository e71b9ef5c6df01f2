"""Importance of input features for a representation. Public functions are methods of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_name, check_whole
from indiseek_sc.data import read_input, read_standardized
from indiseek_sc.metrics import mean_squared_jacobian, permutation_importance, probe_r2
from indiseek_sc.model._cells import (
    evaluation_parts,
    find_role,
    get_design,
    get_matrix,
    require,
    require_own_cells,
)
from indiseek_sc.model._latents import encode_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek

Method = Literal["jacobian", "permutation", "probe"]
OneModality = Literal["shared", "specific"]


def feature_importance(
    model: IndiSeek,
    *,
    modality: str,
    kind: OneModality = "specific",
    method: Method = "jacobian",
    max_cells: int = 2000,
    n_repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Compute how much of each input feature an encoder uses, or a representation contains.

    Features are those of the modality as the model normalises them within a cell, in units of their
    standard deviations; genes that are not among the highly variable ones are left out. Two
    questions can be answered:

    - What does the encoder *use*? ``"jacobian"`` is the mean over cells of
      :math:`\sum_k (\partial z_k / \partial x_j)^2`. ``"permutation"`` is the mean squared change
      of the representation when the feature is permuted among cells, relative to twice the
      variance of the representation. The specific encoder also reads its own shared
      representation, which is a function of the same features: both paths count, as a total
      derivative. Features by which the encoder *removes* something from the representation
      therefore count too.
    - What does the representation *contain*? ``"probe"`` is the held-out :math:`R^2` with which
      newly trained probes predict the feature from the representation.

    Importance is computed on the held-out cells, or on the validation cells if none were held out;
    probes are trained on the other cells. The paper does not describe its measure of importance in
    detail; these definitions are those of this package.

    Parameters
    ----------
    modality
        Modality of the features and of the representation, by its name in the MuData.
    kind
        ``"specific"`` or ``"shared"``.
    method
        ``"jacobian"``, ``"permutation"`` or ``"probe"``, see above. Permutation encodes all cells
        ``n_repeats`` times for each feature.
    max_cells
        Largest number of cells to use, and of cells to train probes on, drawn at random. Memory use
        is proportional to this number times the number of features (160 MB for 2,000 cells and
        20,000 genes), and twice that for probes.
    n_repeats
        Number of permutations of each feature, for ``"permutation"``.
    seed
        Seed for drawing cells, for permutations and for the initialisation of probes.

    Returns
    -------
    One row for each feature, in the order of the input, with the columns ``feature``,
    ``importance``, ``standard_error`` (over cells, for a fixed model), ``method``, ``kind`` and
    ``modality``.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range.
    RuntimeError
        If the stage that produces the representation is not trained.

    Examples
    --------
    >>> importance = model.feature_importance(modality="adt", max_cells=50)
    >>> importance.columns.to_list()
    ['feature', 'importance', 'standard_error', 'method', 'kind', 'modality']
    """
    _check_importance(kind, method, max_cells, n_repeats)
    role = find_role(model, modality)
    require(model, kind)
    mdata = model._validate_anndata()
    model.module.eval()
    evaluated, others = _draw_evaluated_and_others(
        model, mdata, max_cells, np.random.default_rng(check_whole("seed", seed, 0))
    )
    if method == "probe":
        rows = np.concatenate([others, evaluated])
        latent = encode_all(model, mdata, rows, [(kind, role)])[0]
        parts = np.split(np.arange(len(rows)), [len(others)])
        importance = probe_r2(latent, _features(model, mdata, role, rows).cpu().numpy(), *parts, seed=seed)
    else:
        features, components = _features(model, mdata, role, evaluated), model.module.transforms[role].components
        encode = _make_encode(model, kind, role, get_design(model, mdata, evaluated))
        inner = model.module.transforms[role].project(features)
        if method == "permutation":
            settings = {"n_repeats": n_repeats, "seed": seed}
            importance = permutation_importance(encode, inner, features, components, **settings)
        else:
            per_unit = mean_squared_jacobian(encode, inner, components)
            variance = features.double().var(dim=0, correction=0).cpu().numpy()
            importance = type(per_unit)(*(values * variance for values in per_unit))
    table = {"feature": _feature_names(model, role), "importance": importance.value}
    table |= {"standard_error": importance.standard_error}
    return pd.DataFrame({**table, "method": method, "kind": kind, "modality": modality})


def _draw_evaluated_and_others(
    model: IndiSeek, mdata: MuData, max_cells: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of cells to evaluate on, and rows of the cells that the model was fitted to."""
    split = require_own_cells(model, mdata, evaluation_parts(model), "feature_importance")
    others, evaluated = split.for_judging()
    evaluated, others = (np.sort(rng.permutation(rows)[:max_cells]) for rows in (evaluated, others))
    return evaluated, others


def _features(model: IndiSeek, mdata: Any, role: Role, rows: np.ndarray) -> Tensor:
    return read_standardized(model.module.transforms[role], get_matrix(model, mdata, role), rows)


def _feature_names(model: IndiSeek, role: Role) -> np.ndarray:
    names = np.asarray(read_input(model.registry_, role)[1]["column_names"])
    return names[model.module.transforms[role].features.cpu().numpy()]


def _make_encode(model: IndiSeek, kind: OneModality, role: Role, design: Tensor) -> Callable[[Tensor, slice], Tensor]:
    """Return the encoder of a representation, as a function of features and their cells."""
    correct = model.module.covariate_offsets[role]
    return lambda features, cells: model.module.encode(kind, role, correct(features, design[cells]), design[cells])


def _check_importance(kind: str, method: str, max_cells: int, n_repeats: int) -> None:
    check_name("kind", kind, get_args(OneModality))
    check_name("method", method, get_args(Method))
    check_whole("max_cells", max_cells, 2)
    check_whole("n_repeats", n_repeats, 1)
