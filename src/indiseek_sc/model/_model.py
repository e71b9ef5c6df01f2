"""The model class: set-up, representations, and training; what else it does are functions on a model, attached here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from mudata import MuData
from scvi.model.base import BaseModelClass

from indiseek_sc._checks import check_flag, check_several, check_whole
from indiseek_sc._keys import ROLES
from indiseek_sc.data import MAX_MISSING, find_covariates, read_input
from indiseek_sc.model import (
    _attribution,
    _audit,
    _lambda_path,
    _latents,
    _prediction,
    _queries,
    _refits,
    _report,
    _saving,
    _setup,
    _training,
)
from indiseek_sc.model._cells import find_split
from indiseek_sc.model._stages import SHARED
from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import build_transform
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from indiseek_sc._keys import Role
    from indiseek_sc.data import RequestedKind
    from indiseek_sc.metrics import LambdaPath
    from indiseek_sc.model._stages import Stage
    from indiseek_sc.module import Independence, Preset
    from indiseek_sc.train import Split


class IndiSeek(BaseModelClass):
    r"""Split what RNA and surface proteins of a cell share from what each alone knows.

    Stage 1 learns *shared representations* :math:`C_i` that find their partner in the other modality (InfoNCE), agree with it and tell
    of it all that can be told (a canonical term and a prediction; ours). Stage 2 learns *specific representations* :math:`Z_i` of each modality by

    .. math::

        \min\; I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,
        \frac{E \lVert g_i(Z_i, C_i) - X_i \rVert^2}{E \lVert X_i - E X_i \rVert^2},

    independence of the *other* modality's shared representation, and completeness together with the own one (IndiSeek [1]_). By
    default the encoder of stage 2 starts as a conditional whitening, where it is nearly independent already; that
    design is ours, and ``preset="paper"`` gives the published one.

    Parameters
    ----------
    mdata
        A MuData registered by :meth:`setup_mudata`; may be left out if ``registry`` is given.
    registry
        The registry of a saved model, given by :meth:`load`.
    n_shared
        Width of the shared representations. If not given, 6, or 10 where representations of 6 do not tell nearly all of the other modality that can be told
        (validation cells, no labels). Directions that are not shared on validation cells are dropped, and those that the
        others can spare. A narrower representation agrees better with the other modality, a wider one finds partners better.
    n_specific
        Largest width of the specific representations. They are narrower where the data leave less to hold, where dimensions would lie idle, and
        where cells are few; the widths in use are those of what :meth:`get_latent_representation` returns, and the model shows them.
    n_hidden
        Width of hidden layers.
    n_layers
        Number of hidden layers.
    dropout
        Dropout of the shared encoders.
    info_nce_weight
        Weight of InfoNCE, the loss of CLIP, in stage 1. More of it helps to find a cell's partner, less makes shared representations
        hold less that is not shared.
    canonical_weight
        Weight of the canonical term in stage 1, for each dimension.
    prediction_weight
        Weight of the error of predicting each modality from the other one's shared representation in stage 1.
    independence
        What specific representations are trained against: names joined by ``+`` of ``"gaussian"``, ``"gaussian_full"``, ``"mixture"`` (vCLUB
        with these densities), ``"nce"``, ``"nce_concatenated"`` (NCE-CLUB), ``"leave_one_out"``, ``"adversarial"`` (critics that learn),
        ``"hsic"``, ``"distance_correlation"`` (kernel terms, at most 1, so they ask for another ``lambda_``),
        ``"gaussian_bounded"`` (the published recipe), ``"orthogonality"`` (DisentangledSSL's) and ``"none"``. Or what makes a critic from ``n_specific`` and ``n_condition``: a
        subclass of :class:`~indiseek_sc.losses.IndependenceCritic` or a ``functools.partial`` of one; or a sequence or mapping
        of these and of names, for their sum. A saved model names such code but does not hold it, so it is given again when the model is
        loaded (:meth:`load`).
    batch_offsets
        Whether what batches and other covariates add to features is subtracted before representations are learned
        (:func:`~indiseek_sc.data.fit_offsets`); of no effect without covariates.
    n_components
        Number of principal components of RNA to work on. If not given, those of the first 50 that hold on cells that they were not
        fitted on: all of them of many cells, few of a few hundred.
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
    >>> model.train(max_epochs=1)  # leave max_epochs out for a full training
    >>> model.write_latents()
    """

    _module_cls = IndiSeekModule
    _changed_settings: ClassVar[dict[str, Any]] = {}
    """What a method that departs from this one has in the place of the preset's settings."""
    _shared_stages: ClassVar[tuple[Stage, ...]] = (SHARED,)
    """How shared representations are trained."""
    _trains_stages_apart: ClassVar[bool] = True
    """Whether stage 1 and stage 2 can be trained one without the other."""
    _copied: MuData | None = None
    """The copy of the last view that was given."""

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
        n_components: int | None = None,
        n_top_genes: int | None = None,
        preset: Preset = "default",
        seed: int = 0,
    ) -> None:
        if mdata is not None and not isinstance(mdata, MuData):
            raise TypeError(
                f"mdata must be a MuData with both modalities, but is {type(mdata).__name__}. Put them together by "
                f"mdata = mudata.MuData({{'rna': rna, 'adt': adt}}), and call {type(self).__name__}.setup_mudata(mdata)."
            )
        if mdata is None and registry is None:
            raise ValueError(f"mdata: give a MuData that {type(self).__name__}.setup_mudata(mdata) was called with.")
        if mdata is not None and self._get_most_recent_anndata_manager(mdata) is None:
            raise ValueError(
                f"mdata was not set up for this model. Call {type(self).__name__}.setup_mudata(mdata) first."
            )
        super().__init__(mdata, registry)
        # `load` gives the data itself, and nothing in their place if a model without data was saved.
        self.init_params_ = self._get_init_params({name: value for name, value in locals().items() if name != "mdata"})
        given = {
            "n_shared": n_shared,
            "n_shared_first": n_shared,
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
        self.settings = make_settings(preset, **{**self._changed_settings, **own})
        self.preset = preset
        self.seed = seed = check_whole("seed", seed, 0)
        inputs = {role: read_input(self.registry_, role) for role in ROLES}
        self.modalities: dict[Role, str] = {role: source.modality for role, (source, _) in inputs.items()}
        """Names in the MuData, by the name within the module."""
        transforms = {
            role: build_transform(
                role,
                state["kind"],
                len(state["column_names"]),
                n_cells=self.summary_stats["n_cells"],
                n_components=n_components,
                n_top_genes=n_top_genes,
                has_gaps=torch.from_numpy(source.find_gaps()),
            )
            for role, (source, state) in inputs.items()
        }
        covariates = find_covariates(self.registry_)
        gaps = {
            role: torch.from_numpy(np.stack([source.find_gaps(batch) for batch in covariates.learned_batches]))
            for role, (source, _) in inputs.items()
            if source.gaps
        }
        with isolated_seed(seed):
            self.module = self._module_cls(
                transforms,
                self.settings.architecture,
                covariates.n_levels,
                len(covariates.values),
                covariates.n_added,
                gaps,
            )
        self.stages_: list[str] = []
        """The stages that are trained, such as ``"shared"``."""
        self.split_: dict[str, Any] = {}
        """The cells that the model was trained with: names, parts and sums of values."""
        self.lambda_ = self.settings.optimisation.lambda_
        self.lambda_path_: dict[str, Any] | None = None

    # Set-up

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        adt_layer: str | None = None,
        batch_key: str | None = None,
        *,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        modalities: Mapping[str, str] | None = None,
        rna_obsm_key: str | None = None,
        adt_obsm_key: str | None = None,
        rna_input: RequestedKind = "auto",
        adt_input: RequestedKind = "auto",
        exclude: Sequence[str] | None = None,
        check_sizes: bool = True,
        **kwargs: Any,
    ) -> None:
        """Tell the model where RNA and ADT are in a MuData.

        All values are looked at once, in parts. What they are taken for is logged in a line per modality. As with every
        scvi-tools model, identifiers in ``mdata.uns`` and a column ``_scvi_batch`` in ``obs`` are written; nothing else
        is changed, and nothing at all if an error is raised.

        Parameters
        ----------
        mdata
            Cells with both modalities, in the same order; or cells of which some lack one, known by their names: the model learns from those with both. Values may be dense or sparse, of any
            number type, in memory or in a backed file.
        rna_layer
            Layer of the RNA modality with the values; ``.X`` if not given.
        adt_layer
            The same for ADT.
        batch_key
            Column with the batch of each cell, in ``mdata.obs`` or in ``obs`` of a modality, with or without
            ``"<modality>:"`` before it. Neither the shared nor the specific representations shall depend on it: what a batch adds to the features
            of the cells of each state is estimated and subtracted (``IndiSeek(batch_offsets=...)``, :func:`~indiseek_sc.data.fit_offsets`), cells are
            compared within batches in stage 1, specific representations are made independent of the batch, decoders read it, and the joint representation is decoded
            as for cells of no certain one. A column that is a condition too, such as a disease, loses what the condition does to all cells of a state.
        categorical_covariate_keys
            Names of further columns of this kind, such as the donor or the kit: their effects are added to those of the batch.
        continuous_covariate_keys
            Names of columns of numbers, such as the share of mitochondrial counts, of which nothing linear shall be left either.
        modalities
            Names of the modalities, by argument: ``{"rna_layer": "rna", "adt_layer": "adt"}`` if not given.
            ``"batch_key"`` may name the modality whose ``obs`` holds the batch, and ``"protein_layer"``, as TOTALVI has it,
            is ``"adt_layer"``.
        rna_obsm_key
            Read RNA from this entry of ``obsm``, of the modality or of ``mdata``, such as principal components.
        adt_obsm_key
            The same for ADT.
        rna_input
            What the values of RNA are. ``"auto"`` takes non-negative whole numbers for counts, entries of ``obsm`` for
            a representation, and all else for normalised values; but values that are not whole and too large for logarithms, as
            corrections of counts leave them, for counts too, with a warning.
        adt_input
            The same for ADT.
        exclude
            Names of proteins that the model does not read. If not given, these are isotype controls, hashtags and unmapped reads, which are
            known by their names, and what is 0 in all cells; ``()`` leaves nothing out. They stay in the data, and queries need not have them.
            Proteins that are NaN in all cells of some batches (``batch_key``) count as not measured there: they have no part in the level of a
            cell and in losses, and their features are estimated from cells of the same state.
        check_sizes
            Refuse an RNA modality that has fewer features than the ADT modality and no more than a panel of antibodies
            has, since they were probably swapped.
        **kwargs
            Refused: arguments of other models, with what to do in their place.

        Raises
        ------
        TypeError
            If ``mdata`` is no MuData, values are not real numbers, or an argument is not known.
        ValueError
            If the data cannot be used as told; the message names the argument, the modality, the first offenders and
            the remedy.

        Examples
        --------
        >>> IndiSeek.setup_mudata(mdata, rna_layer="counts", batch_key="donor", modalities={"adt_layer": "prot"})
        """
        setup_method_args = cls._get_setup_method_args(**locals())  # first, before there are other locals
        _setup.check_further_arguments(kwargs, setup_method_args["setup_args"])
        check_flag("check_sizes", check_sizes)
        if exclude is not None and not isinstance(exclude, str):  # an index or an array has no truth value
            setup_method_args["setup_args"]["exclude"] = check_several("exclude", exclude)
        cls.register_manager(_setup.register(mdata, setup_method_args))

    @classmethod
    def setup_anndata(cls, adata: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Not there: the model needs two modalities.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"{cls.__name__} reads two modalities: put them together by mdata = mudata.MuData({{'rna': rna, 'adt': adt}}) "
            f"and call {cls.__name__}.setup_mudata(mdata)."
        )

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, np.ndarray]:
        """Return the names of the features that the model reads, by modality, with or without data at hand.

        Parameters
        ----------
        legacy_mudata_format
            As in scvi-tools: one array of all names of ``mdata`` instead.

        Returns
        -------
        Names in the order that the model expects, each of shape ``(n_features,)``; a modality read from ``obsm`` is
        left out.
        """
        if legacy_mudata_format:
            return super().get_var_names(legacy_mudata_format=True)
        inputs = [read_input(self.registry_, role) for role in self.modalities]
        return {source.modality: state["column_names"] for source, state in inputs if source.attribute != "obsm"}

    def _validate_anndata(
        self,
        adata: MuData | None = None,
        copy_if_view: bool = True,
        *,
        roles: Sequence[Role] = ROLES,
        max_missing: float = MAX_MISSING,
    ) -> MuData:
        """Check that some modalities of a MuData can be read in the place of those that were set up, and register it for this model.

        Data that were not set up are looked at as in :meth:`setup_mudata`; of those that were, a sample of cells, since
        they may have been normalised in place since. Of a view a copy is returned, whatever ``copy_if_view`` says: a
        set-up is noted in the data.
        """
        own: MuData | None = self.adata
        mdata = own if adata is None else adata
        if mdata is None:
            raise ValueError("mdata: the model was loaded without data, so it needs a MuData here.")
        if _setup.is_view(mdata):
            mdata = mdata.copy()
            if self._copied is not None and (manager := self.get_anndata_manager(self._copied)) is not None:
                # scvi-tools keeps all that it registers, and lets go only of what `setup_mudata` registered.
                self._per_instance_manager_store[self.id].pop(manager.adata_uuid, None)
            self._copied = mdata
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        is_known = any(manager.adata is mdata for manager in managers)  # and was spoken of before
        _setup.check_query(
            self, mdata, roles, max_missing=max_missing, is_sample_enough=mdata is own, is_quiet=is_known
        )
        manager = self.get_anndata_manager(mdata)
        if manager is None:
            manager = _setup.register_query(mdata, self.registry_)
            self._register_manager_for_instance(manager)
        manager.validate()
        # scvi-tools forgets this where it registers a copy of the data by itself, and would then load by `setup_anndata`.
        manager.registry["setup_method_name"] = "setup_mudata"
        return mdata

    # Saving

    save = _saving.save
    load = classmethod(_saving.load)
    load_registry = staticmethod(_saving.load_registry)
    view_setup_args = staticmethod(_saving.view_setup_args)
    convert_legacy_save = classmethod(_saving.convert_legacy_save)

    # Training

    train = _training.train
    take_over = _training.take_over
    lambda_path = _lambda_path.lambda_path
    train_prediction = _prediction.train_prediction

    @property
    def chosen_path(self) -> LambdaPath | None:
        """The walk by which lambda was chosen; None if it was given."""
        return _lambda_path.get_chosen_path(self)

    @property
    def split(self) -> Split:
        """Row numbers of the model's training, validation and test cells in its data; a cell is known by its name and values."""
        if not self.split_ or self._adata is None:
            raise AttributeError("split: the model is not trained, or has no data.")
        return find_split(self, self._adata)

    @property
    def train_indices(self) -> np.ndarray | None:
        """Row numbers of the training cells in the model's data; None before training, or without data."""
        return self.split.train if self.split_ and self._adata is not None else None

    @property
    def validation_indices(self) -> np.ndarray | None:
        """The same of the validation cells."""
        return self.split.validation if self.split_ and self._adata is not None else None

    @property
    def test_indices(self) -> np.ndarray | None:
        """The same of the cells that were held out."""
        return self.split.test if self.split_ and self._adata is not None else None

    # Queries

    prepare_query_mudata = classmethod(_queries.prepare_query_mudata)
    load_query_data = classmethod(_queries.load_query_data)

    # Representations

    get_latent_representation = _latents.get_latent_representation
    get_reconstruction = _latents.get_reconstruction
    get_features = _latents.get_features
    write_latents = _latents.write_latents
    write_refits = _refits.write_refits

    # Evaluation and interpretation

    audit = _audit.audit
    make_auditor = _audit.make_auditor
    predict_modality = _prediction.predict_modality
    audit_prediction = _prediction.audit_prediction
    feature_importance = _attribution.feature_importance
    feature_attribution = _attribution.feature_attribution
    report = _report.report

    def __repr__(self) -> str:
        module, is_trained = self.module, "specific" in self.stages_
        first = module.modalities[0]
        n_shared = module.rotations[first].n_kept if self.stages_ else module.n_shared
        n_specific = (
            {role: encoder_decoder.n_used for role, encoder_decoder in module.encoder_decoders.items()}
            if is_trained
            else module.n_specific
        )
        widths = ", ".join(f"{n} ({self.modalities[role]})" for role, n in n_specific.items())
        self._model_summary_string = (
            f"{type(self).__name__} with shared representations of {'' if self.stages_ else 'at most '}{n_shared} dimensions and specific "
            f"representations of {'' if is_trained else 'at most '}{widths}; preset {self.preset!r}, seed {self.seed}."
        )
        if is_trained:
            chosen = "" if self.chosen_path is None else ", chosen by the audit"
            self._model_summary_string += f" Lambda {self.lambda_:g}{chosen}."
        return super().__repr__()
