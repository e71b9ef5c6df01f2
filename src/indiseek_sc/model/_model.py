"""The model class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from indiseek_sc._keys import ROLES
from indiseek_sc.data import read_batch, read_input
from indiseek_sc.model._coordinate_importance import CoordinateImportanceMixin
from indiseek_sc.model._feature_attribution import FeatureAttributionMixin
from indiseek_sc.model._report import ReportMixin
from indiseek_sc.model._take_over import TakeOverMixin
from indiseek_sc.model._training import TrainingMixin
from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import build_transform
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.module import Independence, Preset


class IndiSeek(
    TrainingMixin,
    TakeOverMixin,
    ReportMixin,
    CoordinateImportanceMixin,
    FeatureAttributionMixin,
):
    r"""Split what RNA and surface proteins of a cell share from what each alone knows.

    Stage 1 learns *shared codes* :math:`C_i` that find their partner in the other modality (InfoNCE), agree with it and tell
    of it all that can be told (a canonical term and a prediction; ours). Stage 2 learns *specific codes* :math:`Z_i` of each modality by

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
        Width of the shared codes. If not given, 6, or 10 where codes of 6 do not tell nearly all of the other modality that can be told
        (validation cells, no labels). Directions that are not shared on validation cells are dropped, and those that the
        others can spare. A narrower code agrees better with the other modality, a wider one finds partners better.
    n_specific
        Largest width of the specific codes. They are narrower where the data leave less to hold, where dimensions would lie idle, and
        where cells are few; the widths in use are those of what :meth:`get_latent_representation` returns, and the model shows them.
    n_hidden
        Width of hidden layers.
    n_layers
        Number of hidden layers.
    dropout
        Dropout of the shared encoders.
    info_nce_weight
        Weight of InfoNCE, the loss of CLIP, in stage 1. More of it helps to find a cell's partner, less makes shared codes
        hold less that is not shared.
    canonical_weight
        Weight of the canonical term in stage 1, for each dimension.
    prediction_weight
        Weight of the error of predicting each modality from the other one's shared code in stage 1.
    independence
        What specific codes are trained against: names joined by ``+`` of ``"gaussian"``, ``"gaussian_full"``, ``"mixture"`` (vCLUB
        with these densities), ``"nce"``, ``"nce_concatenated"`` (NCE-CLUB), ``"leave_one_out"``, ``"adversarial"`` (critics that learn),
        ``"hsic"``, ``"distance_correlation"`` (kernel terms, at most 1, so they ask for another ``lambda_``),
        ``"gaussian_bounded"`` (the published recipe), ``"orthogonality"`` (DisentangledSSL's) and ``"none"``. Or what makes a critic from ``n_specific`` and ``n_condition``: a
        subclass of :class:`~indiseek_sc.losses.IndependenceCritic` or a ``functools.partial`` of one; or a sequence or mapping
        of these and of names, for their sum. It is pickled with the model, so its code must be importable where that is
        loaded.
    batch_offsets
        Whether what each batch adds to features, cell states alike, is taken out of them before codes are learned
        (:func:`~indiseek_sc.data.fit_batch_offsets`); nothing without ``batch_key``.
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
    _changed_settings: ClassVar[dict[str, Any]] = {}
    """What a method that departs from this one has in the place of the preset's settings."""

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
        info_nce_weight: float | None = None,
        canonical_weight: float | None = None,
        prediction_weight: float | None = None,
        independence: Independence | None = None,
        batch_offsets: bool | None = None,
        n_components: int = 50,
        n_top_genes: int | None = None,
        preset: Preset = "default",
        seed: int = 0,
    ) -> None:
        super().__init__(mdata, registry)
        self.init_params_ = self._get_init_params(locals())
        given = {
            "n_shared": n_shared,
            "n_specific": n_specific,
            "n_hidden": n_hidden,
            "n_layers": n_layers,
            "dropout": dropout,
            "info_nce_weight": info_nce_weight,
            "canonical_weight": canonical_weight,
            "prediction_weight": prediction_weight,
            "independence": independence,
            "batch_offsets": batch_offsets,
        }
        own = {name: value for name, value in given.items() if value is not None}
        if n_shared is not None:
            own["n_shared_first"] = n_shared
        self.settings = make_settings(preset, **{**self._changed_settings, **own})
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
        self._preset = preset

    def __repr__(self) -> str:
        module, is_trained = self.module, "specific" in self.stages_
        n_shared = module.rotations["rna"].n_kept if self.stages_ else module.n_shared
        n_specific = {role: codec.n_used for role, codec in module.codecs.items()} if is_trained else module.n_specific
        self._model_summary_string = (
            f"{type(self).__name__} with shared codes of {'' if self.stages_ else 'at most '}{n_shared} dimensions and specific codes of "
            f"{'' if is_trained else 'at most '}{', '.join(f'{n} ({self.modalities[role]})' for role, n in n_specific.items())}; "
            f"preset {self._preset!r}, seed {self.seed}."
        )
        if is_trained:
            chosen = "" if self.chosen_path is None else ", chosen by the audit"
            self._model_summary_string += f" Lambda {self.lambda_:g}{chosen}."
        return super().__repr__()
