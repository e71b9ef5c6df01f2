"""Feature transforms from raw values to the features of the encoders, saved with the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from indiseek_sc._checks import check_whole

if TYPE_CHECKING:
    from indiseek_sc._keys import Role

InputKind = Literal["counts", "normalized", "representation"]
"""Kind of values of a modality; a representation is the output of another method."""

CellStep = Literal["library_size", "clr"]
"""Normalisation within each cell, before features are standardised."""


@dataclass(frozen=True)
class Recipe:
    """Preprocessing steps of a kind of input.

    Parameters
    ----------
    cell_step
        Normalisation within each cell: ``"library_size"`` (scale to a common total, then
        ``log1p``), ``"clr"`` (centred log-ratio), or None.
    project
        Whether to project standardised features on principal components.
    max_value
        Absolute value at which standardised features are clipped.
    shared_scale
        Whether to divide all features by the same number, which keeps their relative variances.
    subtract_noise
        Whether to weight features by their variance in excess of counting noise. Requires counts, a
        normalisation with a logarithm, and a shared scale.

    Examples
    --------
    >>> from indiseek_sc.nn import Recipe
    >>> str(Recipe(cell_step="library_size", project=True))
    'library size, log1p, scaling, PCA'
    """

    cell_step: CellStep | None = None
    project: bool = False
    max_value: float = math.inf
    shared_scale: bool = False
    subtract_noise: bool = False

    def __str__(self) -> str:
        within_cell = {"library_size": ["library size", "log1p"], "clr": ["centred log-ratio per cell"], None: []}
        scaling = "centring, one scale for all" if self.shared_scale else "scaling"
        if self.subtract_noise:
            scaling = "centring, weighting by signal"
        return ", ".join([*within_cell[self.cell_step], scaling, *(["PCA"] if self.project else [])])


_RECIPES: dict[tuple[Role, InputKind], Recipe] = {
    ("rna", "counts"): Recipe(cell_step="library_size", project=True, shared_scale=True, subtract_noise=True),
    ("rna", "normalized"): Recipe(project=True, shared_scale=True),
    ("rna", "representation"): Recipe(shared_scale=True),
    ("adt", "counts"): Recipe(cell_step="clr", shared_scale=True, subtract_noise=True),
    ("adt", "normalized"): Recipe(shared_scale=True),
    ("adt", "representation"): Recipe(shared_scale=True),
}


def get_recipe(role: Role, kind: InputKind) -> Recipe:
    """Return the preprocessing steps for a role and a kind of input.

    Parameters
    ----------
    role
        Role of the modality, ``"rna"`` or ``"adt"``.
    kind
        Kind of its values.

    Examples
    --------
    >>> from indiseek_sc.nn import get_recipe
    >>> str(get_recipe("adt", "counts"))
    'centred log-ratio per cell, centring, weighting by signal'
    """
    return _RECIPES[role, kind]


class FeatureTransform(nn.Module):
    r"""Normalise each cell, centre and scale each feature, and project on principal components.

    For a cell :math:`x`, with the fitted parameters :math:`L, m, s, W, b`,

    .. math::

        y = \log\!\Big(1 + \frac{L}{\sum_j x_j}\, x\Big)
        \quad\text{or}\quad
        y_j = \log(1 + x_j) - \frac{1}{p}\sum_k \log(1 + x_k)
        \quad\text{or}\quad y = x,

    .. math::

        z_j = \operatorname{clip}\big(s_j\,(y_j - m_j),\ \pm v\big), \qquad t = z W - b,

    where the recipe determines which steps are taken and how :math:`s_j` is computed. With the
    standard deviation :math:`d_j`, it is :math:`1 / d_j`; with a shared scale,
    :math:`1 / \max_k d_k` for all features; and if noise is subtracted,
    :math:`\sqrt{q_j} / \max_k \sqrt{q_k}\, d_k`, where :math:`q_j` is the share of the variance
    that counting noise does not explain. A feature that is constant in the training cells has
    :math:`s_j = 0` and is always 0. The fitted parameters are buffers that are NaN until
    :func:`indiseek_sc.data.fit_transform` or a state dict sets them, so that an unfitted transform
    cannot be used by accident.

    Parameters
    ----------
    recipe
        Preprocessing steps.
    n_input
        Number of raw features.
    n_components
        Number of principal components; required if ``recipe.project``.
    choose_components
        Whether a fit keeps only the first components that generalise to other cells; the remaining
        components are columns of 0.
    n_features
        Number of features kept after the normalisation of cells (highly variable genes); all if not
        given.
    has_gaps
        Which features may be NaN because a batch did not measure them, shape ``(n_input,)``; none
        if not given. The level of a cell is the mean logarithm of the other features, and NaN is
        replaced by the mean of the training cells that have the feature.

    Raises
    ------
    ValueError
        If ``recipe.project`` and ``n_components`` is not given.

    Examples
    --------
    >>> from indiseek_sc.nn import FeatureTransform, Recipe
    >>> transform = FeatureTransform(Recipe(cell_step="clr"), n_input=2)
    >>> transform.normalize(torch.tensor([[0.0, 1.0]]))
    tensor([[-0.3466,  0.3466]])
    """

    is_common: torch.Tensor | None
    library_size: torch.Tensor | None
    shares: torch.Tensor | None
    features: torch.Tensor
    center: torch.Tensor
    scale: torch.Tensor
    components: torch.Tensor | None
    offset: torch.Tensor | None

    def __init__(
        self,
        recipe: Recipe,
        n_input: int,
        *,
        n_components: int | None = None,
        choose_components: bool = False,
        n_features: int | None = None,
        has_gaps: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        if recipe.project and n_components is None:
            raise ValueError("n_components is needed for a recipe that projects on principal components.")
        self.recipe = recipe
        self.n_input = n_input
        self.choose_components = choose_components
        self.n_features = n_input if n_features is None else min(n_features, n_input)
        self.n_output = n_components if recipe.project and n_components is not None else self.n_features

        is_common = None if has_gaps is None or not has_gaps.any() else ~has_gaps
        self.register_buffer("is_common", is_common, persistent=False)
        has_library_size = recipe.cell_step == "library_size"
        self.register_buffer("library_size", torch.tensor(math.nan) if has_library_size else None)
        self.register_buffer("shares", torch.full((n_input,), math.nan) if has_library_size else None)
        self.register_buffer("features", torch.arange(self.n_features))
        self.register_buffer("center", torch.full((self.n_features,), math.nan))
        self.register_buffer("scale", torch.full((self.n_features,), math.nan))
        shape = (self.n_features, self.n_output)
        self.register_buffer("components", torch.full(shape, math.nan) if recipe.project else None)
        self.register_buffer("offset", torch.full(shape[1:], math.nan) if recipe.project else None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if self.shares is not None:  # models of earlier versions have no shares: assume equal ones
            state_dict.setdefault(f"{prefix}shares", torch.full_like(self.shares, 1 / self.n_input))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def normalize(self, x: torch.Tensor, is_missing: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise each cell: ``(n_cells, n_input)`` to ``(n_cells, n_features)``.

        Parameters
        ----------
        x
            Raw values, shape ``(n_cells, n_input)``.
        is_missing
            Which features were not measured, shape ``(n_input,)``. They are left out of sums over
            the features of a cell, and imputed with the mean of the training cells.
        """
        if not self.needs_all_values:
            return self.normalize_selected(self._select(x), x.sum(dim=1), is_missing)
        logs = torch.log1p(x)
        if is_missing is None:
            common = logs if self.is_common is None else logs[:, self.is_common]
            return self._select(logs - common.mean(dim=1, keepdim=True))
        # The level of a cell is the mean difference of its logarithms from their training means.
        # Over all features it equals the mean logarithm, since the training means sum to 0. Over
        # the measured features it does not depend on whether high or low counts are missing.
        is_level = ~is_missing if self.is_common is None else ~is_missing & self.is_common
        level = (logs - self.center)[:, is_level].mean(dim=1, keepdim=True)
        return self._impute(logs - level, is_missing)

    @property
    def needs_all_values(self) -> bool:
        """Whether :meth:`normalize` needs all values of a cell, not only some and the total."""
        return self.recipe.cell_step == "clr"

    def normalize_selected(
        self, x: torch.Tensor, total: torch.Tensor, is_missing: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalise each cell given selected features and the total, if not all values are needed.

        Parameters
        ----------
        x
            Raw values of the features in use, shape ``(n_cells, n_features)``.
        total
            Sum over all features, shape ``(n_cells,)``.
        is_missing
            Which features were not measured, shape ``(n_input,)``.
        """
        if self.library_size is not None and self.shares is not None:
            target = self.library_size
            if is_missing is not None:
                # The total covers measured features only, so it is scaled to their share of all
                # training counts.
                target = target * self.shares[~is_missing].sum()
            # Counts are integers, so only a cell without counts has a total below 1; it stays 0.
            x = torch.log1p(x * (target / total.clamp(min=1.0))[:, None])
        return x if is_missing is None else self._impute(x, is_missing)

    def _impute(self, y: torch.Tensor, is_missing: torch.Tensor) -> torch.Tensor:
        """Replace features that were not measured by the mean of the training cells."""
        return torch.where(is_missing[self.features], self.center, y)

    def standardize(self, y: torch.Tensor) -> torch.Tensor:
        """Centre, scale and clip features, shape ``(n_cells, n_features)``."""
        z = ((y - self.center) * self.scale).clamp(-self.recipe.max_value, self.recipe.max_value)
        return z if self.is_common is None else torch.where(z.isnan() & ~self.is_common, 0.0, z)

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """Project features on principal components, if the recipe includes this step.

        ``(n_cells, n_features)`` to ``(n_cells, n_output)``.
        """
        return z if self.components is None or self.offset is None else z @ self.components - self.offset

    def undo_change(self, change: torch.Tensor) -> torch.Tensor:
        """Return the smallest change of normalised values that gives a change of features.

        ``(n_cells, n_output)`` to ``(n_cells, n_features)``, in units of :meth:`normalize`.
        Clipping is ignored.
        """
        if self.components is not None:  # columns are orthogonal; unused ones are 0
            change = (change / self.components.square().sum(dim=0).clamp(min=1e-30)) @ self.components.T
        return torch.where(self.scale > 0, change / self.scale.clamp(min=1e-30), 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform raw values to features.

        Parameters
        ----------
        x
            Raw values, float32, shape ``(n_cells, n_input)``.

        Returns
        -------
        Features, shape ``(n_cells, n_output)``, with mean 0 over the training cells. With a shared
        scale the feature of largest standard deviation (of its signal, if noise is subtracted), or
        the first component, has a standard deviation of 1, and the others keep their ratio to it.
        """
        return self.from_normalized(self.normalize(x))

    def from_normalized(self, y: torch.Tensor) -> torch.Tensor:
        """Apply the remaining steps to normalised values, shape ``(n_cells, n_features)``."""
        return self.project(self.standardize(y))

    @property
    def used(self) -> torch.Tensor:
        """Indices of the output columns in use, shape ``(n_used,)``; dropped components are 0."""
        if self.components is None:
            return torch.arange(self.n_output, device=self.center.device)
        return self.components.ne(0).any(dim=0).nonzero()[:, 0]

    @property
    def directions(self) -> torch.Tensor:
        """Change of standardised features per component, shape ``(n_output, n_features)``."""
        if self.components is None:
            return torch.eye(self.n_features, device=self.center.device)
        return torch.linalg.pinv(self.components)  # unused components are columns of 0

    def unproject(self, t: torch.Tensor) -> torch.Tensor:
        """Return the standardised features of minimum norm with the given components.

        ``(n_cells, n_output)`` to ``(n_cells, n_features)``.
        """
        return t if self.offset is None else (t + self.offset) @ self.directions

    def unstandardize(self, z: torch.Tensor) -> torch.Tensor:
        """Return standardised features in the units of :meth:`normalize`."""
        return self.center + z * self.spread

    @property
    def spread(self) -> torch.Tensor:
        """Divisor of each feature, shape ``(n_features,)``; 0 for constant features."""
        return torch.where(self.scale > 0, 1 / self.scale.clamp(min=torch.finfo(self.scale.dtype).tiny), 0.0)

    def _select(self, x: torch.Tensor) -> torch.Tensor:
        """Return the columns of the features in use."""
        return x if self.n_features == self.n_input else x[:, self.features]


MOST_COMPONENTS = 50
"""Largest number of principal components if their number is chosen by the fit."""

USUAL_TOP_GENES = 2000
"""Default number of highly variable genes of counts, as is usual in the field.

With few cells it gives better results than all genes, most of which are noise.
"""


def build_transform(
    role: Role,
    kind: InputKind,
    n_input: int,
    *,
    n_cells: int,
    n_components: int | None = None,
    n_top_genes: int | None = None,
    has_gaps: torch.Tensor | None = None,
) -> FeatureTransform:
    """Build an unfitted transform for the values of one modality.

    Parameters
    ----------
    role
        Role of the modality, ``"rna"`` or ``"adt"``.
    kind
        Kind of its values.
    n_input
        Number of raw features.
    n_cells
        Number of cells of the model, which bounds the number of components.
    n_components
        Number of principal components of RNA, bounded by the numbers of cells and features. If not
        given, the fit keeps those of the first 50 components that generalise to cells on which they
        were not fitted.
    n_top_genes
        Number of highly variable genes from which the components are computed; the library size is
        computed from all genes. If not given, 2,000 for counts, and all genes for normalised
        values, which may have been selected or scaled already. Only for RNA.
    has_gaps
        Which features may be NaN, shape ``(n_input,)``. Only for proteins.

    Returns
    -------
    The transform.

    Raises
    ------
    ValueError
        If ``n_components`` or ``n_top_genes`` is below 1.

    Examples
    --------
    >>> from indiseek_sc.nn import build_transform
    >>> build_transform("rna", "counts", 20_000, n_cells=6_000).n_output
    50
    """
    for name, value in (("n_components", n_components), ("n_top_genes", n_top_genes)):
        if value is not None:
            check_whole(name, value, 1)
    recipe = get_recipe(role, kind)
    if not recipe.project:
        return FeatureTransform(recipe, n_input, has_gaps=has_gaps)
    if n_top_genes is None and kind == "counts":
        n_top_genes = USUAL_TOP_GENES
    n_features = n_input if n_top_genes is None else min(n_top_genes, n_input)
    wanted = MOST_COMPONENTS if n_components is None else n_components
    return FeatureTransform(
        recipe,
        n_input,
        n_components=max(1, min(wanted, n_features - 1, n_cells - 1)),
        choose_components=n_components is None,
        n_features=n_features,
    )
