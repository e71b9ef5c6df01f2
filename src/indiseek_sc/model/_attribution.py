"""Which features a representation is made of and which it responds to. Public functions here are methods of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_name, check_whole
from indiseek_sc._lookup import as_categories, find_obs
from indiseek_sc.data import MAX_MISSING, as_row_major, read_coordinates, read_input
from indiseek_sc.metrics import mean_squared_jacobian, permutation_importance, probe_r2
from indiseek_sc.model._attribution_methods import DecoderJacobian, IntegratedGradients, make_table
from indiseek_sc.model._cells import (
    as_rows,
    evaluation_parts,
    find_cells,
    find_role,
    get_design,
    get_matrix,
    require,
    require_own_cells,
)
from indiseek_sc.model._latents import Kind, encode_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek

AttributionMethod = Literal["decoder_jacobian", "integrated_gradients"]
Values = Literal["normalized", "raw"]
Method = Literal["jacobian", "permutation", "probe"]
OneModality = Literal["shared", "specific"]

CELLS_FOR_DEVIATIONS = 2_000
"""Standard deviations of representations are those of at most so many cells, drawn at random."""

ALL = "all"
"""Name of the one group where no groups are given."""


def feature_attribution(
    model: IndiSeek,
    mdata: MuData | None = None,
    *,
    modality: str | None = None,
    kind: Kind = "specific",
    method: AttributionMethod = "decoder_jacobian",
    values: Values = "normalized",
    groups: str | Sequence[Any] | np.ndarray | pd.Series | None = None,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    max_cells: int = 500,
    n_steps: int = 32,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
) -> pd.DataFrame:
    r"""Say which genes and proteins drive each dimension of a representation, by group of cells.

    There are two questions:

    - what changes along a dimension: ``"decoder_jacobian"``, the slope of each decoded feature, in normalised values
      (logarithms of expression, log-ratios of proteins) per standard deviation of the dimension among the cells of
      ``indices``. The other representation of the modality is held fixed. This is the one to name a dimension by;
    - what puts cells where they are: ``"integrated_gradients"``, the contribution of each feature to the distance between
      the representations of a cell and of the mean cell (with the covariates of the cell), in units of the representation. Over features they add
      up to that distance; over all cells they nearly cancel, so give ``groups``, or look at ``magnitude``. What the
      encoder uses to take something *out* of a representation contributes too.

    Arrays of cells by features are made in parts of 16 MiB, so memory does not grow with cells; it grows with the table.

    Parameters
    ----------
    mdata
        Cells to look at, as in :meth:`get_latent_representation`.
    modality
        Whose representation, by the name in the MuData; both, one after the other, if not given. The joint representation is of both.
    kind
        ``"specific"``, ``"shared"`` or ``"joint"``; the last is the slowest, as it has the dimensions of all representations and asks the encoders of both modalities.
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
        Row numbers or names of the cells to look at, or a mask; all if not given.
    max_cells
        At most so many cells of each group, drawn at random. Time grows with them.
    n_steps
        Points on the path of integrated gradients.
    seed
        Decides which cells are drawn.
    max_missing
        As in :meth:`get_latent_representation`; 0 where ``values="raw"``.

    Returns
    -------
    One row for each modality, dimension (column of the representation, from 0), group and feature: ``modality``, ``kind``,
    ``method``, ``dimension``, ``group``, ``n_cells``, ``feature``, ``attribution`` (mean over the cells of the group),
    its ``standard_error`` (over cells; the model is taken as given; NaN of a single cell), and ``magnitude`` (root mean
    square over cells). For a representation as a whole see :func:`indiseek_sc.tl.block_attribution`.

    Raises
    ------
    ValueError
        If an argument is not known or out of range, or no cell has a label.
    KeyError
        If no ``obs`` has a column of that name.
    RuntimeError
        If the stages that make the representation, and for the Jacobian its decoder, were not trained.
    ImportError
        If Captum is needed and not installed.
    """
    _check_attribution(kind, method, values, max_cells, n_steps)
    roles = _find_attributed(model, modality, kind)
    require(model, "shared" if (kind, method) == ("shared", "integrated_gradients") else "specific")
    if values == "raw":
        max_missing = 0.0  # what is missing has no raw value
    needed = tuple(model.modalities) if kind == "joint" else roles
    mdata = model._validate_anndata(mdata, roles=needed, max_missing=max_missing)
    model.module.eval()
    rows = as_rows(indices, mdata.obs_names)
    rows = rows[find_cells(model, mdata, needed)[rows]]
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    cells = draw_cells(find_groups(mdata, groups), rows, max_cells, rng)
    looked_at = np.concatenate(list(cells.values()))

    matrices = {role: as_row_major(get_matrix(model, mdata, role)) for role in roles}
    parts: dict[str, Any] = {"module": model.module, "kind": kind, "matrices": matrices}
    parts["get_design"] = lambda some: get_design(model, mdata, some)
    attributor: DecoderJacobian | IntegratedGradients
    if method == "decoder_jacobian":
        attributor = DecoderJacobian(**parts, stds=_stds(model, mdata, kind, roles, rows, rng))
    else:
        baseline_rows = looked_at if values == "raw" else None
        attributor = IntegratedGradients(**parts, baseline_rows=baseline_rows, n_steps=n_steps)
    names = {role: np.asarray(read_input(model.registry_, role)[1]["column_names"]) for role in roles}
    table = make_table(attributor, cells, names, model.modalities)
    if isinstance(attributor, IntegratedGradients):
        attributor.warn_if_incomplete()
    for place, (column, name) in enumerate((("kind", kind), ("method", method)), start=1):
        table.insert(place, column, pd.Categorical.from_codes(np.zeros(len(table), dtype=np.int8), [name]))
    return table


def _find_attributed(model: IndiSeek, modality: str | None, kind: str) -> list[Role]:
    """Return the modalities whose features are looked at, in the order of roles."""
    if modality is None:
        return list(model.modalities)
    if kind == "joint":
        raise ValueError(
            "modality: the joint representation is of both modalities; leave it out, or choose another kind."
        )
    return [find_role(model, modality)]


def _stds(
    model: IndiSeek, mdata: MuData, kind: str, roles: list[Role], rows: np.ndarray, rng: np.random.Generator
) -> dict[Role, torch.Tensor]:
    """Return the standard deviation of each dimension among cells, whatever their groups."""
    some = rng.permutation(rows)[:CELLS_FOR_DEVIATIONS]
    latents = encode_all(model, mdata, some, [(kind, None if kind == "joint" else role) for role in roles])
    return {role: torch.from_numpy(latent.std(axis=0)) for role, latent in zip(roles, latents, strict=True)}


def _check_attribution(kind: str, method: str, values: str, max_cells: int, n_steps: int) -> None:
    for name, given, known in (
        ("kind", kind, get_args(Kind)),
        ("method", method, get_args(AttributionMethod)),
        ("values", values, get_args(Values)),
    ):
        check_name(name, given, known)
    if values == "raw" and method == "decoder_jacobian":
        raise ValueError("values='raw': nothing is decoded to raw values; use method='integrated_gradients'.")
    check_whole("max_cells", max_cells, 1)
    check_whole("n_steps", n_steps, 1)


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
    r"""Say how much of each input feature an encoder uses, or how much its representation contains.

    A feature is a feature of the modality as the model normalises it within a cell, in units of its standard
    deviation; genes that are not among the highly variable ones take no part. There are two questions:

    - what the encoder *uses*: ``"jacobian"``, mean over cells of :math:`\sum_k (\partial z_k / \partial x_j)^2`, and
      ``"permutation"``, how far the representation moves when the feature is exchanged among cells, as a share of twice the
      variance of the representation. The specific encoder also reads the own shared representation, which is a function of the same
      features: both paths count, as a total derivative. So a feature that is used to take something *out* of the
      representation counts too;
    - what the representation *contains*: ``"probe"``, held-out R2 with which fresh probes tell the feature from the representation.

    Cells are those that were held out, or the validation cells if none were; probes learn on the others. How the paper
    measures importance is not known to us in detail; these definitions are ours.

    Parameters
    ----------
    modality
        Whose features and representation, by the name in the MuData.
    kind
        ``"specific"`` or ``"shared"``.
    method
        See above. A permutation encodes all cells ``n_repeats`` times for each feature.
    max_cells
        At most so many cells to look at, and for probes to learn on, drawn at random. Memory grows with this number
        times that of features (160 MB for 2,000 cells and 20,000 genes), twice that for probes.
    n_repeats
        Exchanges of each feature, for ``"permutation"``.
    seed
        Decides which cells, the exchanges and the probes' starts.

    Returns
    -------
    One row a feature, in the order of the input: ``feature``, ``importance``, ``standard_error`` (over cells; the
    model is taken as given), ``method``, ``kind``, ``modality``.

    Raises
    ------
    ValueError
        If an argument is not known or out of range.
    RuntimeError
        If the stage that makes the representation was not trained.
    """
    _check_importance(kind, method, max_cells, n_repeats)
    role = find_role(model, modality)
    require(model, kind)
    mdata = model._validate_anndata()
    model.module.eval()
    looked_at, others = _draw_seen_and_unseen(
        model, mdata, max_cells, np.random.default_rng(check_whole("seed", seed, 0))
    )
    if method == "probe":
        rows = np.concatenate([others, looked_at])
        latent = encode_all(model, mdata, rows, [(kind, role)])[0]
        parts = np.split(np.arange(len(rows)), [len(others)])
        importance = probe_r2(latent, _features(model, mdata, role, rows).cpu().numpy(), *parts, seed=seed)
    else:
        features, components = _features(model, mdata, role, looked_at), model.module.transforms[role].components
        encode = _make_encode(model, kind, role, get_design(model, mdata, looked_at))
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


def _draw_seen_and_unseen(
    model: IndiSeek, mdata: MuData, max_cells: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of cells that the model did not learn from, and of those that it did."""
    split = require_own_cells(model, mdata, evaluation_parts(model), "feature_importance")
    seen, unseen = split.for_judging()
    unseen, seen = (np.sort(rng.permutation(rows)[:max_cells]) for rows in (unseen, seen))
    return unseen, seen


def _features(model: IndiSeek, mdata: Any, role: Role, rows: np.ndarray) -> Tensor:
    return read_coordinates(model.module.transforms[role], get_matrix(model, mdata, role), rows)


def _feature_names(model: IndiSeek, role: Role) -> np.ndarray:
    names = np.asarray(read_input(model.registry_, role)[1]["column_names"])
    return names[model.module.transforms[role].features.cpu().numpy()]


def _make_encode(model: IndiSeek, kind: OneModality, role: Role, design: Tensor) -> Callable[[Tensor, slice], Tensor]:
    """Return the encoder of a representation, as a function of features and of which cells they are of."""
    correct = model.module.covariate_offsets[role]
    return lambda features, cells: model.module.encode(kind, role, correct(features, design[cells]), design[cells])


def _check_importance(kind: str, method: str, max_cells: int, n_repeats: int) -> None:
    check_name("kind", kind, get_args(OneModality))
    check_name("method", method, get_args(Method))
    check_whole("max_cells", max_cells, 2)
    check_whole("n_repeats", n_repeats, 1)


def find_groups(mdata: MuData, groups: str | Sequence[Any] | np.ndarray | pd.Series | None) -> pd.Categorical:
    """Return the label of each cell of ``mdata``: a column of ``obs``, values as given, or one group of all.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is not one value for each cell.
    """
    if groups is None:
        return pd.Categorical([ALL] * mdata.n_obs)
    labels = find_obs(mdata, groups, "groups") if isinstance(groups, str) else groups
    if not np.iterable(labels) or len(labels) != mdata.n_obs:  # type: ignore[arg-type]
        there = f"there are {len(labels):,}" if np.iterable(labels) else f"it is {labels!r}"  # type: ignore[arg-type]
        raise ValueError(f"groups: one label is needed for each cell of mdata ({mdata.n_obs:,}), but {there}.")
    if isinstance(labels, pd.Series) and not labels.index.equals(mdata.obs_names) and isinstance(labels.index[0], str):
        name = next(a for a, b in zip(labels.index, mdata.obs_names, strict=True) if a != b)
        raise ValueError(
            f"groups: its index is not that of the cells, first at {name!r}. Give groups.reindex(mdata.obs_names)."
        )
    return pd.Categorical(as_categories(pd.Series(labels)))


def draw_cells(
    labels: pd.Categorical, rows: np.ndarray, max_cells: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return row numbers, ascending, of at most ``max_cells`` cells of each group that occurs among ``rows``.

    Raises
    ------
    ValueError
        If none of the cells has a label.
    """
    latents = labels.codes[rows]
    cells = {}
    for latent, name in enumerate(labels.categories):
        of_group = rows[latents == latent]
        if of_group.size:
            cells[name] = np.sort(rng.permutation(of_group)[:max_cells])
    if not cells:
        raise ValueError(
            "groups: none of the cells looked at has a label. "
            if rows.size
            else "indices: there is no cell to look at. "
        )
    return cells
