"""Attribution methods: decoder Jacobian, integrated gradients, and tables of their results."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from indiseek_sc._settings import settings
from indiseek_sc.data import iterate_rows, read_standardized
from indiseek_sc.model._cells import compute_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

    Slopes = Iterator[tuple[Role, int, Tensor]]
    """Modality, dimension, and values by cell and feature, shape ``(n_cells, n_features)``."""

LARGEST_ERROR = 0.05
"""Largest relative error of the sum of contributions (root mean square over cells and dimensions)
that raises no warning."""


class DecoderJacobian:
    r"""Slopes of decoded features along the dimensions of a representation.

    The slope is :math:`\sigma_k\, \partial \hat y_j / \partial z_k`, with :math:`\hat y` in
    normalised values (logarithms of expression, log-ratios of proteins). Slopes of decoded
    principal components are transformed back to features by the loadings. The other representation
    of the modality and the covariates are held fixed. The joint representation has no decoder: its
    slopes are the loadings of its principal components, which are the same in every cell.

    Parameters
    ----------
    module
        The trained module.
    kind
        ``"shared"``, ``"specific"`` or ``"joint"``.
    matrices
        Raw values of each modality to attribute to.
    stds
        Standard deviations :math:`\sigma_k` of each modality's representation (or of the joint
        representation), shape ``(n_dimensions,)``.
    get_design
        Function that returns the covariates of given rows.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        kind: str,
        matrices: Mapping[Role, Any],
        stds: Mapping[Role, Tensor],
        get_design: Callable[[np.ndarray], Tensor],
    ) -> None:
        self.module = module
        self.kind = kind
        self.matrices = matrices
        self.stds = stds
        self.get_design = get_design
        self.columns: dict[Role, np.ndarray] = {
            role: module.transforms[role].features.cpu().numpy() for role in matrices
        }
        self.widest_row = max(columns.size for columns in self.columns.values())

    @torch.no_grad()
    def attribute(self, rows: np.ndarray) -> Slopes:
        """Yield the slopes in the given cells."""
        for role, matrix in self.matrices.items():
            is_joint = self.kind == "joint"
            slopes = self._joint_slopes(role, rows) if is_joint else self._modality_slopes(role, matrix, rows)
            for dimension, slope in enumerate(slopes):
                yield role, dimension, self.module.transforms[role].undo_change(slope)

    def _modality_slopes(self, role: Role, matrix: Any, rows: np.ndarray) -> Iterator[Tensor]:
        module, design = self.module, self.get_design(rows)
        features = compute_features(module, role, matrix, rows, design)
        shared = module.shared(role, features)
        condition = module.condition(role, shared, design)
        specific = module.specific(role, features, condition)

        def decode(moved: Tensor) -> Tensor:
            if self.kind == "specific":
                return module.encoder_decoders[role].decode(moved, condition)
            return module.encoder_decoders[role].decode(specific, module.condition(role, moved, design))

        is_specific = self.kind == "specific"
        point = specific if is_specific else shared
        # Columns that are not in use are not part of the representation that users receive.
        columns = module.encoder_decoders[role].used.tolist() if is_specific else range(module.rotations[role].n_kept)
        for column, std in zip(columns, self.stds[role].tolist(), strict=True):
            direction = torch.zeros_like(point)
            direction[:, column] = std
            # Forward mode, since a representation has fewer dimensions than there are features.
            yield torch.func.jvp(decode, (point,), (direction,))[1]

    def _joint_slopes(self, role: Role, rows: np.ndarray) -> Iterator[Tensor]:
        module, position = self.module, self.module.modalities.index(role)
        widths = list(module.n_features.values())
        components = module.joint.principal.components[:, module.joint.used]
        loadings = components.split(widths)[position] / module.joint.scales[position]
        for loading, std in zip(loadings.T, self.stds[role].tolist(), strict=True):
            yield (loading * std).expand(rows.size, -1)


class Path(NamedTuple):
    """Straight paths of the features of one modality from the baseline to each cell.

    Parameters
    ----------
    change
        Features of the cells minus the baseline, shape ``(n_cells, n_features)``.
    start
        Input of the encoder for the baseline, shape ``(1, n_inner)``.
    end
        Input of the encoder for the cells, shape ``(n_cells, n_inner)``.
    components
        Matrix that transforms features to the input of the encoder, shape
        ``(n_features, n_inner)``; None if the input is the features themselves.
    """

    change: Tensor
    start: Tensor
    end: Tensor
    components: Tensor | None = None


class IntegratedGradients:
    r"""Integrated gradients: contributions of features to the dimensions of a representation.

    Contributions add up to the difference from the representation of a baseline :math:`b`:

    .. math::

        a_{jk} = (x_j - b_j) \int_0^1 \frac{\partial z_k}{\partial x_j}
        \big(b + \alpha (x - b)\big)\, d\alpha , \qquad
        \sum_j a_{jk} = z_k(x) - z_k(b) ,

    computed by Captum [1]_. For normalised values, :math:`b` is the mean of the training cells.
    Principal components are linear in the normalised values, so the path is straight in them too,
    and gradients are integrated in this space of few dimensions. For raw values, :math:`b` is the
    mean of the given cells: a path from a cell without counts would be constant, since values are
    divided by the library size.

    Parameters
    ----------
    module
        The trained module.
    kind
        ``"shared"``, ``"specific"`` or ``"joint"``.
    matrices
        Raw values of each modality to attribute to; of both for the joint representation.
    get_design
        Function that returns the covariates of given rows.
    baseline_rows
        Cells whose mean is the baseline of raw values. If not given, contributions of normalised
        values are computed.
    n_steps
        Number of points on the path.

    Raises
    ------
    ImportError
        If Captum is not installed.

    References
    ----------
    .. [1] Sundararajan, Taly, Yan. Axiomatic attribution for deep networks. ICML 70, 3319 (2017).
    """

    def __init__(
        self,
        module: IndiSeekModule,
        kind: str,
        matrices: Mapping[Role, Any],
        get_design: Callable[[np.ndarray], Tensor],
        *,
        baseline_rows: np.ndarray | None = None,
        n_steps: int = 32,
    ) -> None:
        try:
            from captum.attr import IntegratedGradients as CaptumGradients
        except ImportError as error:
            raise ImportError(
                "method='integrated_gradients' needs Captum. Install it by pip install \"indiseek_sc[attribution]\", "
                "or use method='decoder_jacobian'."
            ) from error
        # Captum only integrates the gradients; `_follow` multiplies them by the change of features.
        self._make = lambda forward: CaptumGradients(forward, multiply_by_inputs=False)
        self.module = module
        self.kind = kind
        self.matrices = matrices
        self.get_design = get_design
        self.n_steps = n_steps
        self.is_raw = baseline_rows is not None
        self.starts = {} if baseline_rows is None else {role: self._mean(role, baseline_rows) for role in matrices}
        transforms = {role: module.transforms[role] for role in matrices}
        self.columns: dict[Role, np.ndarray] = {
            role: np.arange(t.n_input) if self.is_raw else t.features.cpu().numpy() for role, t in transforms.items()
        }
        self.widest_row = max(t.n_input for t in transforms.values())
        self.squared_error, self.squared_distance = 0.0, 0.0

    def attribute(self, rows: np.ndarray) -> Iterator[tuple[Role, int, Tensor]]:
        """Yield modality, dimension and contributions, shape ``(n_cells, n_features)``.

        Rows are in ascending order.
        """
        paths = {role: self._read(role, rows) for role in self.matrices}
        # Each representation is a function of one modality, the joint representation of both.
        for roles in [tuple(paths)] if self.kind == "joint" else [(role,) for role in paths]:
            yield from self._follow({role: paths[role] for role in roles}, self.get_design(rows))

    def _follow(self, paths: Mapping[Role, Path], design: Tensor) -> Iterator[tuple[Role, int, Tensor]]:
        def encode(*arguments: Tensor) -> Tensor:
            *inner, design = arguments
            return self._encode(dict(zip(paths, inner, strict=True)), design)

        starts, ends = (tuple(getattr(path, end) for path in paths.values()) for end in ("start", "end"))
        with torch.no_grad():
            distance = encode(*ends, design) - encode(*(x.expand(len(design), -1) for x in starts), design)
        n_inner = max(end.shape[1] for end in ends)
        at_once = max(len(design), min(settings.cells_at_once, settings.rows_at_once(n_inner)))
        captum = self._make(encode)
        for dimension in range(distance.shape[1]):
            slopes = captum.attribute(
                ends,
                starts,
                target=dimension,
                additional_forward_args=design,
                n_steps=self.n_steps,
                internal_batch_size=at_once,
            )
            total = torch.zeros_like(distance[:, dimension])
            for (role, path), slope in zip(paths.items(), slopes, strict=True):
                contribution = path.change * (slope if path.components is None else slope @ path.components.T)
                total += contribution.sum(dim=1)
                yield role, dimension, contribution
            self.squared_error += float((total - distance[:, dimension]).square().sum())
        self.squared_distance += float(distance.square().sum())

    def _encode(self, inner: Mapping[Role, Tensor], design: Tensor) -> Tensor:
        features = {role: self.module.transforms[role](x) if self.is_raw else x for role, x in inner.items()}
        features = {role: self.module.covariate_offsets[role](x, design) for role, x in features.items()}
        if self.kind == "joint":
            return self.module.describe(features, design)["joint"]
        (role,) = features
        return self.module.encode(self.kind, role, features[role], design)

    def _read(self, role: Role, rows: np.ndarray) -> Path:
        transform, matrix = self.module.transforms[role], self.matrices[role]
        if self.is_raw:
            raw = torch.from_numpy(np.concatenate(list(iterate_rows(matrix, rows)))).to(self.module.device)
            return Path(raw - self.starts[role], self.starts[role], raw)
        # Standardised features have mean 0. They are clipped, as for the networks.
        change = read_standardized(transform, matrix, rows)
        start = transform.project(torch.zeros_like(change[:1]))
        return Path(change, start, transform.project(change), transform.components)

    def _mean(self, role: Role, rows: np.ndarray) -> Tensor:
        total = sum(part.sum(axis=0, dtype=np.float64) for part in iterate_rows(self.matrices[role], rows))
        return torch.from_numpy(total / rows.size)[None].to(self.module.device, torch.float32)

    def warn_if_incomplete(self) -> None:
        """Warn if contributions do not add up, which means that the path has too few points."""
        if self.squared_distance == 0:
            return
        error = (self.squared_error / self.squared_distance) ** 0.5
        if error > LARGEST_ERROR:
            warnings.warn(
                f"n_steps={self.n_steps}: the sums of contributions differ from the changes of the representation by "
                f"{error:.0%} (root mean square). Increase n_steps.",
                UserWarning,
                stacklevel=3,
            )


class Attributor(Protocol):
    """Method that attributes the dimensions of a representation to features in each cell."""

    @property
    def columns(self) -> Mapping[Role, NDArray[np.intp]]:
        """Column numbers of the features of each modality in its raw values."""

    @property
    def widest_row(self) -> int:
        """Largest number of values for a cell."""

    def attribute(self, rows: NDArray[np.intp]) -> Iterator[tuple[Role, int, Tensor]]:
        """Yield modality, dimension and attributions, shape ``(n_cells, n_features)``."""


class CellMoments:
    """Sums over cells, accumulated over chunks of cells."""

    def __init__(self) -> None:
        self.total: NDArray[np.float64] | float = 0.0
        self.squares: NDArray[np.float64] | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add a chunk of cells, shape ``(n_cells, n_features)``."""
        values = values.double()
        self.total = self.total + values.sum(dim=0).cpu().numpy()
        self.squares = self.squares + values.square().sum(dim=0).cpu().numpy()

    def finish(self, n_cells: int) -> NDArray[np.float64]:
        """Return mean, standard error of the mean, and root mean square over cells.

        Returns
        -------
        Shape ``(3, n_features)``; the standard error of a single cell is NaN.
        """
        mean, mean_square = self.total / n_cells, self.squares / n_cells
        variance = np.maximum(mean_square - mean**2, 0.0) / (n_cells - 1) if n_cells > 1 else np.full_like(mean, np.nan)
        return np.stack([mean, np.sqrt(variance), np.sqrt(mean_square)])


def average(attributor: Attributor, rows: NDArray[np.intp]) -> dict[tuple[Role, int], NDArray[np.float64]]:
    """Average attributions over one group of cells, in chunks.

    Returns
    -------
    Results of :meth:`CellMoments.finish` by modality and dimension.
    """
    moments: dict[tuple[Role, int], CellMoments] = {}
    n_at_once = min(settings.cells_at_once, settings.rows_at_once(attributor.widest_row))
    for chunk in np.split(rows, range(n_at_once, rows.size, n_at_once)):
        for role, dimension, values in attributor.attribute(chunk):
            moments.setdefault((role, dimension), CellMoments()).add(values)
    return {key: sums.finish(rows.size) for key, sums in moments.items()}


def make_table(
    attributor: Attributor,
    cells: Mapping[str, NDArray[np.intp]],
    names: Mapping[Role, NDArray[np.str_]],
    modalities: Mapping[Role, str],
) -> pd.DataFrame:
    """Tabulate attributions averaged over each group of cells.

    Parameters
    ----------
    attributor
        The attribution method.
    cells
        Row numbers of the cells of each group, ascending.
    names
        Names of all features of each modality.
    modalities
        The user's own names of the modalities.

    Returns
    -------
    One row for each modality, dimension, group and feature, in this order. Names are categorical to
    save memory.
    """
    found = [average(attributor, rows) for rows in cells.values()]
    n_cells = np.array([rows.size for rows in cells.values()])
    parts = []
    for role, columns in attributor.columns.items():
        n_dimensions = sum(key[0] == role for key in found[0])
        shape = n_dimensions, len(cells), columns.size
        dimension, group, feature = (index.ravel() for index in np.indices(shape, dtype=np.int32))
        part = pd.DataFrame(
            {
                "modality": np.full(dimension.size, list(attributor.columns).index(role), dtype=np.int8),
                "dimension": dimension,
                "group": pd.Categorical.from_codes(group, list(cells)),
                "n_cells": n_cells[group],
                "feature": pd.Categorical.from_codes(feature, names[role][columns]),
            }
        )
        for i, column in enumerate(("attribution", "standard_error", "magnitude")):
            values = [[averages[role, d][i] for averages in found] for d in range(n_dimensions)]
            part[column] = np.asarray(values, dtype=np.float64).reshape(-1)
        parts.append(part)
    features = pd.Index(np.concatenate([part["feature"].cat.categories for part in parts])).unique()
    table = pd.concat([part.assign(feature=part["feature"].cat.set_categories(features)) for part in parts])
    table["modality"] = pd.Categorical.from_codes(table["modality"], [modalities[role] for role in attributor.columns])
    return table.reset_index(drop=True)
