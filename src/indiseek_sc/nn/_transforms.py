"""From raw values to the features that encoders read: a fixed map with fitted numbers, saved with the model."""

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
"""What the values of a modality are: raw counts, normalised values, or coordinates made by another method."""

CellStep = Literal["library_size", "clr"]
"""What is done within each cell before features are standardised."""


@dataclass(frozen=True)
class Recipe:
    """The steps that a kind of input goes through.

    Parameters
    ----------
    cell_step
        Step within each cell: ``"library_size"`` (scale to one total, then ``log1p``), ``"clr"`` (centred log-ratio),
        or none.
    project
        Whether standardised features are projected on principal components.
    max_value
        Standardised features are clipped to plus and minus this.
    shared_scale
        Whether one number scales all features, so that their relative variances stay.
    subtract_noise
        Whether these are the variances that are left when what counting alone explains is subtracted. For counts, of which a
        step within the cell takes logarithms, with a shared scale.
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
    """Return the steps for the values of ``role`` when they are of this ``kind``."""
    return _RECIPES[role, kind]


class FeatureTransform(nn.Module):
    r"""Normalise within the cell, centre and scale each feature, project on principal components.

    For a cell :math:`x`, with the fitted numbers :math:`L, m, s, W, b`,

    .. math::

        y = \log\!\Big(1 + \frac{L}{\sum_j x_j}\, x\Big)
        \quad\text{or}\quad
        y_j = \log(1 + x_j) - \frac{1}{p}\sum_k \log(1 + x_k)
        \quad\text{or}\quad y = x,

    .. math::

        z_j = \operatorname{clip}\big(s_j\,(y_j - m_j),\ \pm v\big), \qquad t = z W - b,

    where the recipe says which steps are taken, and how :math:`s_j` is found: with :math:`d_j` the standard deviation,
    :math:`1 / d_j`; with a shared scale, :math:`1 / \max_k d_k`, the same for all; and where noise is subtracted, with
    :math:`q_j` the share of the variance that counting alone does not explain, :math:`\sqrt{q_j} / \max_k \sqrt{q_k}\, d_k`, so that a
    feature counts by its signal. A feature that was constant in training has :math:`s_j = 0` and stays
    0. Buffers hold all fitted numbers and are NaN until :func:`indiseek_sc.data.fit_transform` or a state dict fills
    them, so that nothing is encoded by accident before.

    Parameters
    ----------
    recipe
        The steps.
    n_input
        Number of features of the raw values.
    n_components
        Number of principal components; needed if ``recipe.project``.
    choose_components
        Whether a fit keeps only the first components that hold on cells that they were not fitted on; the others are columns
        of 0.
    n_features
        Number of features kept after the step within the cell (highly variable genes); all if not given.
    has_gaps
        Which features may be NaN, where a batch did not measure them, shape ``(n_input,)``; none if not given. The level of a cell is the mean of
        the logarithms of the others, and what is NaN becomes the mean of the training cells that have it.
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
        if self.shares is not None:  # models of before have none: then each feature is taken to have as many counts
            state_dict.setdefault(f"{prefix}shares", torch.full_like(self.shares, 1 / self.n_input))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def normalize(self, x: torch.Tensor, is_missing: torch.Tensor | None = None) -> torch.Tensor:
        """Take the step within each cell: ``(n_cells, n_input)`` to ``(n_cells, n_features)``.

        ``is_missing``, shape ``(n_input,)``, says which features were not measured. These take no part in what is summed over a cell, and are
        the mean of the training cells, so that they tell nothing.
        """
        if not self.needs_all_values:
            return self.normalize_selected(self._select(x), x.sum(dim=1), is_missing)
        logs = torch.log1p(x)
        if is_missing is None:
            common = logs if self.is_common is None else logs[:, self.is_common]
            return self._select(logs - common.mean(dim=1, keepdim=True))
        # The level of a cell is the mean of what its logarithms have above the training mean. Over all features that is their plain mean,
        # since centres add up to 0; over those that are there it does not depend on whether high or low ones are missing.
        is_level = ~is_missing if self.is_common is None else ~is_missing & self.is_common
        level = (logs - self.center)[:, is_level].mean(dim=1, keepdim=True)
        return self._impute(logs - level, is_missing)

    @property
    def needs_all_values(self) -> bool:
        """Whether :meth:`normalize` needs each value of a cell, and not only those of the features in use and the total."""
        return self.recipe.cell_step == "clr"

    def normalize_selected(
        self, x: torch.Tensor, total: torch.Tensor, is_missing: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what :meth:`normalize` does, if all values are not needed.

        From the features in use, shape ``(n_cells, n_features)``, and the total over all features, shape ``(n_cells,)``.
        """
        if self.library_size is not None and self.shares is not None:
            target = self.library_size
            if is_missing is not None:
                # The total lacks what was not measured: it is scaled to the share that the others had of all training counts.
                target = target * self.shares[~is_missing].sum()
            # Counts are whole, so only a cell without any has a total below 1; it stays 0.
            x = torch.log1p(x * (target / total.clamp(min=1.0))[:, None])
        return x if is_missing is None else self._impute(x, is_missing)

    def _impute(self, y: torch.Tensor, is_missing: torch.Tensor) -> torch.Tensor:
        return torch.where(is_missing[self.features], self.center, y)

    def standardize(self, y: torch.Tensor) -> torch.Tensor:
        """Centre, scale and clip features, shape kept at ``(n_cells, n_features)``."""
        z = ((y - self.center) * self.scale).clamp(-self.recipe.max_value, self.recipe.max_value)
        return z if self.is_common is None else torch.where(z.isnan() & ~self.is_common, 0.0, z)

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """Project on principal components, if the recipe says so: ``(n_cells, n_features)`` to ``(n_cells, n_output)``."""
        return z if self.components is None or self.offset is None else z @ self.components - self.offset

    def undo_change(self, change: torch.Tensor) -> torch.Tensor:
        """Turn a change of features into the smallest change of normalised values that makes it.

        ``(n_cells, n_output)`` to ``(n_cells, n_features)``, in units of :meth:`normalize`; clipping is left out of account.
        """
        if self.components is not None:  # orthogonal columns; those that the data do not have are 0
            change = (change / self.components.square().sum(dim=0).clamp(min=1e-30)) @ self.components.T
        return torch.where(self.scale > 0, change / self.scale.clamp(min=1e-30), 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn raw values into features.

        Parameters
        ----------
        x
            Raw values, float32, shape ``(n_cells, n_input)``.

        Returns
        -------
        Features, shape ``(n_cells, n_output)``: each with mean 0 over the cells of the fit. With a shared scale the widest
        has a standard deviation of 1, of its signal where noise is subtracted, and so has the first of components; the others keep
        their ratio to it.
        """
        return self.from_normalized(self.normalize(x))

    def from_normalized(self, y: torch.Tensor) -> torch.Tensor:
        """Take the steps after :meth:`normalize`: ``(n_cells, n_features)`` to ``(n_cells, n_output)``."""
        return self.project(self.standardize(y))

    @property
    def used(self) -> torch.Tensor:
        """Numbers of the columns of the features that are in use, shape ``(n_used,)``; components that were not kept are 0."""
        if self.components is None:
            return torch.arange(self.n_output, device=self.center.device)
        return self.components.ne(0).any(dim=0).nonzero()[:, 0]

    @property
    def directions(self) -> torch.Tensor:
        """What a unit of each component is in standardised features, shape ``(n_output, n_features)``."""
        if self.components is None:
            return torch.eye(self.n_features, device=self.center.device)
        return torch.linalg.pinv(self.components)  # components that the data could not fill are columns of 0

    def unproject(self, t: torch.Tensor) -> torch.Tensor:
        """Return the standardised features nearest to their mean that have these components: ``(n_cells, n_features)``."""
        return t if self.offset is None else (t + self.offset) @ self.directions

    def unstandardize(self, z: torch.Tensor) -> torch.Tensor:
        """Return standardised features in the units of :meth:`normalize`; a constant feature has its constant."""
        return self.center + z * self.spread

    @property
    def spread(self) -> torch.Tensor:
        """What each feature was divided by, shape ``(n_features,)``; 0 for constant features."""
        return torch.where(self.scale > 0, 1 / self.scale.clamp(min=torch.finfo(self.scale.dtype).tiny), 0.0)

    def _select(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.n_features == self.n_input else x[:, self.features]


MOST_COMPONENTS = 50
"""So many principal components there are at most where their number is chosen."""

USUAL_TOP_GENES = 2000
"""As is usual in the field, and better than all genes on few cells, where most genes are noise."""


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
    """Return an unfitted transform for the values of one modality.

    Parameters
    ----------
    role
        The part that the modality plays.
    kind
        What its values are.
    n_input
        Number of features of the raw values.
    n_cells
        Number of cells in the data of the model; bounds the number of components.
    n_components
        Number of principal components of RNA, bounded by what the data can have; if not given, those of the first 50 that hold on
        cells that they were not fitted on.
    n_top_genes
        Number of highly variable genes that the components are made of (the library size is over all genes); if not given,
        2,000 of counts and all genes of normalised values, which may be chosen or scaled already. Concerns RNA only.
    has_gaps
        Which features may be NaN, shape ``(n_input,)``; of proteins only.

    Raises
    ------
    ValueError
        If ``n_components`` or ``n_top_genes`` is below 1.
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
