"""Attribution of representations to features. Public functions are methods of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_name, check_whole
from indiseek_sc._lookup import as_categories, find_obs
from indiseek_sc.data import MAX_MISSING, as_row_major, read_input
from indiseek_sc.model._attribution_methods import DecoderJacobian, IntegratedGradients, make_table
from indiseek_sc.model._cells import (
    as_rows,
    find_cells,
    find_role,
    get_design,
    get_matrix,
    require,
)
from indiseek_sc.model._latents import Kind, encode_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek

AttributionMethod = Literal["decoder_jacobian", "integrated_gradients"]
Values = Literal["normalized", "raw"]

CELLS_FOR_STDS = 2_000
"""Largest number of cells, drawn at random, for standard deviations of representations."""

ALL = "all"
"""Name of the single group if no groups are given."""


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
    r"""Attribute the dimensions of a representation to genes and proteins, by group of cells.

    Two questions can be answered:

    - What changes along a dimension? ``"decoder_jacobian"`` returns the slope of each decoded
      feature, in normalised values (logarithms of expression, log-ratios of proteins) per standard
      deviation of the dimension among the cells of ``indices``. The other representation of the
      modality is held fixed. Use this method to interpret a dimension.
    - What determines the positions of cells? ``"integrated_gradients"`` returns the contribution
      of each feature to the difference between the representation of a cell and that of the mean
      cell (with the covariates of the cell), in units of the representation. Contributions add up
      to that difference over features and nearly cancel over all cells, so give ``groups``, or use
      ``magnitude``. Features by which the encoder *removes* something from a representation
      contribute too.

    Arrays of cells by features are computed in parts of 16 MiB, so memory use grows with the size
    of the table but not with the number of cells.

    Parameters
    ----------
    mdata
        Cells to use, as in :meth:`get_latent_representation`.
    modality
        Modality of the representation, by its name in the MuData. If not given, both modalities,
        one after the other. Must not be given for the joint representation.
    kind
        ``"specific"``, ``"shared"`` or ``"joint"``. The joint representation is the slowest, since
        it has most dimensions and depends on the encoders of both modalities.
    method
        ``"decoder_jacobian"`` or ``"integrated_gradients"``, see above. Integrated gradients need
        Captum (extra ``attribution``).
    values
        Values to which integrated gradients attribute. ``"normalized"``: values normalised within
        the cell; genes that are not among the highly variable ones are left out. ``"raw"``: raw
        values; gradients are propagated through library size or centred log-ratio, through which
        every feature has some influence. This is much slower.
    groups
        Label of each cell: a column of ``obs``, or one value for each cell of ``mdata``. Cells
        without a label are left out. If not given, all cells form one group, ``"all"``.
    indices
        Row numbers or names of the cells to use, or a mask; all cells if not given.
    max_cells
        Largest number of cells of each group, drawn at random. Run time is proportional to it.
    n_steps
        Number of points on the path of integrated gradients.
    seed
        Seed for drawing cells.
    max_missing
        As in :meth:`get_latent_representation`; 0 if ``values="raw"``.

    Returns
    -------
    One row for each modality, dimension (column of the representation, from 0), group and feature,
    with the columns ``modality``, ``kind``, ``method``, ``dimension``, ``group``, ``n_cells``,
    ``feature``, ``attribution`` (mean over the cells of the group), ``standard_error`` (of this
    mean, over cells, for a fixed model; NaN for a single cell), and ``magnitude`` (root mean square
    over cells). For a representation as a whole see :func:`indiseek_sc.tl.block_attribution`.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, or no cell has a label.
    KeyError
        If no ``obs`` has a column of that name.
    RuntimeError
        If the stages that produce the representation, or its decoder for the Jacobian, are not
        trained.
    ImportError
        If Captum is needed but not installed.

    Examples
    --------
    >>> slopes = model.feature_attribution(modality="adt", groups="batch", max_cells=20)
    >>> slopes.columns.to_list()[-4:]
    ['feature', 'attribution', 'standard_error', 'magnitude']
    """
    _check_attribution(kind, method, values, max_cells, n_steps)
    roles = _find_attributed(model, modality, kind)
    require(model, "shared" if (kind, method) == ("shared", "integrated_gradients") else "specific")
    if values == "raw":
        max_missing = 0.0  # missing features have no raw values
    needed = tuple(model.modalities) if kind == "joint" else roles
    mdata = model._validate_anndata(mdata, roles=needed, max_missing=max_missing)
    model.module.eval()
    rows = as_rows(indices, mdata.obs_names)
    rows = rows[find_cells(model, mdata, needed)[rows]]
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    cells = draw_cells(find_groups(mdata, groups), rows, max_cells, rng)
    drawn = np.concatenate(list(cells.values()))

    matrices = {role: as_row_major(get_matrix(model, mdata, role)) for role in roles}
    parts: dict[str, Any] = {"module": model.module, "kind": kind, "matrices": matrices}
    parts["get_design"] = lambda some: get_design(model, mdata, some)
    attributor: DecoderJacobian | IntegratedGradients
    if method == "decoder_jacobian":
        attributor = DecoderJacobian(**parts, stds=_stds(model, mdata, kind, roles, rows, rng))
    else:
        baseline_rows = drawn if values == "raw" else None
        attributor = IntegratedGradients(**parts, baseline_rows=baseline_rows, n_steps=n_steps)
    names = {role: np.asarray(read_input(model.registry_, role)[1]["column_names"]) for role in roles}
    table = make_table(attributor, cells, names, model.modalities)
    if isinstance(attributor, IntegratedGradients):
        attributor.warn_if_incomplete()
    for position, (column, name) in enumerate((("kind", kind), ("method", method)), start=1):
        table.insert(position, column, pd.Categorical.from_codes(np.zeros(len(table), dtype=np.int8), [name]))
    return table


def _find_attributed(model: IndiSeek, modality: str | None, kind: str) -> list[Role]:
    """Return the roles of the modalities to attribute to, in the order of the model."""
    if modality is None:
        return list(model.modalities)
    if kind == "joint":
        raise ValueError(
            "modality: the joint representation combines both modalities; leave modality out, or choose another kind."
        )
    return [find_role(model, modality)]


def _stds(
    model: IndiSeek, mdata: MuData, kind: str, roles: list[Role], rows: np.ndarray, rng: np.random.Generator
) -> dict[Role, torch.Tensor]:
    """Return the standard deviation of each dimension over cells of all groups."""
    some = rng.permutation(rows)[:CELLS_FOR_STDS]
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
        raise ValueError("values='raw': the decoders do not return raw values; use method='integrated_gradients'.")
    check_whole("max_cells", max_cells, 1)
    check_whole("n_steps", n_steps, 1)


def find_groups(mdata: MuData, groups: str | Sequence[Any] | np.ndarray | pd.Series | None) -> pd.Categorical:
    """Return the label of each cell of ``mdata``.

    Labels are a column of ``obs``, the given values, or the single group ``"all"``.

    Raises
    ------
    KeyError
        If ``obs`` has no such column.
    ValueError
        If the number of values differs from the number of cells, or their index does.
    """
    if groups is None:
        return pd.Categorical([ALL] * mdata.n_obs)
    labels = find_obs(mdata, groups, "groups") if isinstance(groups, str) else groups
    if not np.iterable(labels) or len(labels) != mdata.n_obs:  # type: ignore[arg-type]
        given = f"got {len(labels):,}" if np.iterable(labels) else f"got {labels!r}"  # type: ignore[arg-type]
        raise ValueError(f"groups: one label is needed for each cell of mdata ({mdata.n_obs:,}), but {given}.")
    if isinstance(labels, pd.Series) and not labels.index.equals(mdata.obs_names) and isinstance(labels.index[0], str):
        name = next(a for a, b in zip(labels.index, mdata.obs_names, strict=True) if a != b)
        raise ValueError(
            f"groups: the index differs from the names of the cells, first at {name!r}. "
            "Give groups.reindex(mdata.obs_names)."
        )
    return pd.Categorical(as_categories(pd.Series(labels)))


def draw_cells(
    labels: pd.Categorical, rows: np.ndarray, max_cells: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw at most ``max_cells`` of the cells in ``rows`` from each group.

    Returns
    -------
    Ascending row numbers by group; groups without cells in ``rows`` are left out.

    Raises
    ------
    ValueError
        If none of the cells has a label.
    """
    codes = labels.codes[rows]
    cells = {}
    for code, name in enumerate(labels.categories):
        in_group = rows[codes == code]
        if in_group.size:
            cells[name] = np.sort(rng.permutation(in_group)[:max_cells])
    if not cells:
        raise ValueError(
            "groups: none of the selected cells has a label." if rows.size else "indices: no cells are selected."
        )
    return cells
