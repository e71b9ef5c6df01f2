"""The model class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.model.base import BaseModelClass

from indiseek_sc._keys import ROLES
from indiseek_sc.data import read_batch, read_input
from indiseek_sc.model._audit import AuditMixin
from indiseek_sc.model._codes import CodesMixin
from indiseek_sc.model._coordinate_importance import CoordinateImportanceMixin
from indiseek_sc.model._setup import SetupMixin
from indiseek_sc.model._training import TrainingMixin
from indiseek_sc.module import IndiSeekModule, build_transform, make_settings
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.module import Preset


class IndiSeek(SetupMixin, TrainingMixin, CodesMixin, AuditMixin, CoordinateImportanceMixin, BaseModelClass):
    r"""Split what RNA and surface proteins of a cell share from what each alone knows.

    Stage 1 learns *shared codes* :math:`C_i` that find their partner in the other modality (InfoNCE), and nothing else (a
    canonical term, ours). Stage 2 learns *specific codes* :math:`Z_i` of each modality by

    .. math::

        \min\; I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,
        \frac{E \lVert g_i(Z_i, C_i) - X_i \rVert^2}{E \lVert X_i - E X_i \rVert^2},

    independence of the *other* modality's shared code, and completeness together with the own one (IndiSeek [1]_). By
    default the encoder of stage 2 starts as a conditional whitening, where it is nearly independent already; that
    design is ours, and ``preset="paper"`` gives the published one.

    Parameters
    ----------
    mdata
        A MuData registered by :meth:`setup_mudata`; may be left out if ``registry`` is given.
    registry
        The registry of a saved model, given by :meth:`load`.
    n_shared
        Largest width of the shared codes. Directions that are not shared on validation cells are dropped.
    n_specific
        Largest width of the specific codes.
    n_hidden
        Width of hidden layers.
    n_layers
        Number of hidden layers.
    dropout
        Dropout of the shared encoders.
    canonical_weight
        Weight of the canonical term, for each dimension; 0 is CLIP alone.
    independence
        The critics that specific codes are trained against: ``"gaussian"``, ``"nce"``, or both joined by ``+``.
    n_components
        Largest number of principal components of RNA to work on.
    n_top_genes
        Number of highly variable genes that they are made of. If not given, 2,000 of counts, and all genes of normalised
        values, which may be chosen or scaled already; a number as large as that of the genes takes all.
    preset
        Where values that are not given come from: our defaults, or the published recipe.
    seed
        Decides weights, split and batches. On a CPU the same seed gives the same numbers to the bit.

    Notes
    -----
    What a training loss says about independence is no evidence. :meth:`audit` judges by models that never saw the
    critics, on cells that the model never saw.

    References
    ----------
    .. [1] Gui, Ma, Ma. IndiSeek learns information-guided disentangled representations. arXiv 2509.21584 (2025).

    Examples
    --------
    >>> mdata = indiseek_sc.datasets.pbmc_covid()
    >>> IndiSeek.setup_mudata(mdata)
    >>> model = IndiSeek(mdata)
    >>> model.train()
    >>> model.write_latents()
    """

    _module_cls = IndiSeekModule

    def __init__(
        self,
        mdata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_shared: int | None = None,
        n_specific: int | None = None,
        n_hidden: int | None = None,
        n_layers: int | None = None,
        dropout: float | None = None,
        canonical_weight: float | None = None,
        independence: str | None = None,
        n_components: int = 50,
        n_top_genes: int | None = None,
        preset: Preset = "default",
        seed: int = 0,
    ) -> None:
        super().__init__(mdata, registry)
        self.init_params_ = self._get_init_params(locals())
        self.settings = make_settings(
            preset,
            n_shared=n_shared,
            n_specific=n_specific,
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout=dropout,
            canonical_weight=canonical_weight,
            independence=independence,
        )
        self.seed = seed
        inputs = {role: read_input(self.registry_, role) for role in ROLES}
        self.modalities: dict[Role, str] = {role: source.modality for role, (source, _) in inputs.items()}
        transforms = {
            role: build_transform(
                role,
                state["kind"],
                len(state["column_names"]),
                n_cells=self.summary_stats["n_cells"],
                n_components=n_components,
                n_top_genes=n_top_genes,
            )
            for role, (_, state) in inputs.items()
        }
        batch, names = read_batch(self.registry_)
        with isolated_seed(seed):
            self.module = self._module_cls(transforms, self.settings, 1 if batch is None else len(names))
        self.stages_: list[str] = []
        self._model_summary_string = (
            f"IndiSeek with shared codes of at most {self.module.n_shared} dimensions and specific codes of "
            f"{', '.join(f'{n} ({self.modalities[role]})' for role, n in self.module.n_specific.items())}; "
            f"preset {preset!r}, seed {seed}."
        )
