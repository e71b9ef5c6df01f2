"""The model class. Most of its methods are functions on a model, defined in other modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from uuid import uuid4

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
    _importance,
    _lambda_path,
    _latents,
    _prediction,
    _prediction_training,
    _queries,
    _refits,
    _report,
    _saving,
    _setup,
    _take_over,
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
    from indiseek_sc.model._run_stages import Stage
    from indiseek_sc.module import Independence, Preset
    from indiseek_sc.train import Split

SCVI_UUID = "_scvi_uuid"
"""``uns``: identifier under which scvi-tools registers data."""


class IndiSeek(BaseModelClass):
    r"""Model of shared and modality-specific representations of RNA and surface proteins.

    Stage 1 learns *shared representations* :math:`C_i`, which identify a cell in the other modality
    (InfoNCE), agree with that modality and predict it as well as possible (a canonical correlation
    term and a prediction term, which are not part of the published IndiSeek). Stage 2 learns
    *specific representations* :math:`Z_i` of each modality by

    .. math::

        \min\; I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,
        \frac{E \lVert g_i(Z_i, C_i) - X_i \rVert^2}{E \lVert X_i - E X_i \rVert^2},

    that is, independent of the *other* modality's shared representation, and complete together with
    the modality's own shared representation (IndiSeek [1]_). By default the encoder of stage 2 is
    initialised as a conditional whitening, whose output is already nearly independent. This design
    is not part of the published IndiSeek; ``preset="paper"`` gives the published one.

    Parameters
    ----------
    mdata
        A MuData registered by :meth:`setup_mudata`; may be omitted if ``registry`` is given.
    registry
        Registry of a saved model, given by :meth:`load`.
    n_shared
        Number of dimensions of the shared representations. If not given, 6, or 10 if 6 dimensions
        do not explain nearly all of the other modality that can be explained (on validation cells,
        without labels). Directions that are not shared on validation cells, or that the other
        directions make redundant, are dropped. Fewer dimensions agree better with the other
        modality; more dimensions identify partners better.
    n_specific
        Largest number of dimensions of the specific representations. Fewer are used if little
        variance is left to represent, if dimensions would have low variance, or if there are few
        cells. The number in use is the number of columns that :meth:`get_latent_representation`
        returns, and is shown when the model is printed.
    n_hidden
        Width of hidden layers.
    n_layers
        Number of hidden layers.
    dropout
        Dropout rate of the shared encoders.
    info_nce_weight
        Weight of InfoNCE, the loss of CLIP, in stage 1. A larger weight improves retrieval of a
        cell's partner; with a smaller weight shared representations contain less variation that is
        not shared.
    canonical_weight
        Weight of the canonical correlation term in stage 1, per dimension.
    prediction_weight
        Weight in stage 1 of the error of predicting each modality from the shared representation of
        the other one.
    independence
        Measure of dependence that is minimised in stage 2. One of the following names, or several
        joined by ``+``, which are added: ``"gaussian"``, ``"gaussian_full"``, ``"mixture"`` (vCLUB
        with these densities), ``"nce"``, ``"nce_concatenated"`` (NCE-CLUB), ``"leave_one_out"``,
        ``"adversarial"`` (trained critics), ``"hsic"``, ``"distance_correlation"`` (kernel terms,
        at most 1, so they need another ``lambda_``), ``"gaussian_bounded"`` (the published recipe),
        ``"orthogonality"`` (from DisentangledSSL) and ``"none"``. Or a callable that returns a
        critic for ``n_specific`` and ``n_condition``: a subclass of
        :class:`~indiseek_sc.losses.IndependenceCritic` or a ``functools.partial`` of one; or a
        sequence or mapping of these and of names, which are added. A saved model contains the name
        of such a callable but not its code, so it must be given again to :meth:`load`.
    batch_offsets
        Whether the additive effects of batches and other covariates on features are estimated and
        subtracted before representations are learned (:func:`~indiseek_sc.data.fit_offsets`).
        Without effect if there are no covariates.
    n_components
        Number of principal components of RNA. If not given, those of the first 50 that are
        reproducible on cells that they were not fitted to: all 50 with many cells, few with a few
        hundred.
    n_top_genes
        Number of highly variable genes for principal components. If not given, 2,000 for counts,
        and all genes for normalised values, which may be selected or scaled already. A number as
        large as the number of genes uses all of them.
    preset
        Default values of the other arguments: ``"default"`` or ``"paper"``, the published recipe.
    seed
        Seed of weights, split and mini-batches. On a CPU, the same seed gives bitwise identical
        results.

    Notes
    -----
    The training loss is no evidence of independence. :meth:`audit` evaluates the representations by
    independently trained probes on held-out cells.

    References
    ----------
    .. [1] Gui, Ma, Ma. IndiSeek learns information-guided disentangled representations. arXiv
       2509.21584 (2025).

    Examples
    --------
    >>> IndiSeek.setup_mudata(mdata, batch_key="batch")
    >>> new_model = IndiSeek(mdata)
    >>> outcome = new_model.train(max_epochs=1, enable_progress_bar=False)  # omit max_epochs
    >>> new_model.write_latents()
    """

    _module_cls = IndiSeekModule
    _changed_settings: ClassVar[dict[str, Any]] = {}
    """Settings of a subclass that replace those of the preset."""
    _shared_stages: ClassVar[tuple[Stage, ...]] = (SHARED,)
    """Stages that train the shared representations."""
    _trains_stages_apart: ClassVar[bool] = True
    """Whether stage 1 and stage 2 can be trained separately."""
    _copied: MuData | None = None
    """Copy of the last view that was given."""

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
                f"mdata must be a MuData with both modalities, but is {type(mdata).__name__}. Combine them by "
                "mdata = mudata.MuData({'rna': rna, 'adt': adt}), or divide an AnnData that has both by "
                f"mdata = indiseek_sc.io.split_anndata(adata), and call {type(self).__name__}.setup_mudata(mdata)."
            )
        if mdata is None and registry is None:
            raise ValueError(f"mdata: give a MuData that was registered by {type(self).__name__}.setup_mudata(mdata).")
        if mdata is not None and self._get_most_recent_anndata_manager(mdata) is None:
            raise ValueError(
                f"mdata was not set up for this model. Call {type(self).__name__}.setup_mudata(mdata) first."
            )
        super().__init__(mdata, registry)
        # `load` passes the data itself, or no data, so they are not among the saved arguments.
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
        """Names in the MuData by role in the module."""
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
        """Trained stages, such as ``"shared"``."""
        self.split_: dict[str, Any] = {}
        """Cells that the model was trained with: names, parts and sums of values."""
        self.lambda_ = self.settings.optimisation.lambda_
        self.lambda_path_: dict[str, Any] | None = None
        self.train_settings_: dict[str, Any] = {}
        """Settings of the optimisation that arguments of :meth:`train` have replaced."""

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
        """Register a MuData: declare where RNA and ADT values and covariates are.

        All values are checked once, in parts. How they are interpreted is logged in one line per
        modality. As with every scvi-tools model, identifiers are written to ``mdata.uns`` and a
        column ``_scvi_batch`` to ``obs``; nothing else is changed, and nothing at all if an error
        is raised.

        Parameters
        ----------
        mdata
            Cells with both modalities, in the same order; or cells of which some lack one modality,
            matched by their names: the model is trained on those with both. Values may be dense or
            sparse, of any numeric type, in memory or in a backed file.
        rna_layer
            Layer of the RNA modality that contains the values; ``.X`` if not given.
        adt_layer
            Layer of the ADT modality that contains the values; ``.X`` if not given.
        batch_key
            Column with the batch of each cell, in ``mdata.obs`` or in ``obs`` of a modality, with
            or without the prefix ``"<modality>:"``. Representations are made independent of it.
            Additive batch effects on features, which may differ between cell states, are estimated
            and subtracted (``IndiSeek(batch_offsets=...)``,
            :func:`~indiseek_sc.data.fit_offsets`); cells are compared within batches in stage 1;
            specific representations are trained to be independent of the batch; decoders are
            conditioned on the batch; and the joint representation is decoded without assigning
            cells to a batch. If the column is also a biological condition, such as a disease, the
            effect of the condition on all cells of a state is removed.
        categorical_covariate_keys
            Names of further categorical columns, such as the donor or the kit. Their effects are
            added to those of the batch.
        continuous_covariate_keys
            Names of numeric columns, such as the fraction of mitochondrial counts, whose linear
            effects are removed as well.
        modalities
            Names of the modalities, by argument: ``{"rna_layer": "rna", "adt_layer": "adt"}`` if
            not given. ``"batch_key"`` may name the modality whose ``obs`` contains the batch.
            ``"protein_layer"``, as in TOTALVI, is accepted for ``"adt_layer"``.
        rna_obsm_key
            Entry of ``obsm``, of the modality or of ``mdata``, to read RNA from, such as principal
            components.
        adt_obsm_key
            Entry of ``obsm`` to read ADT from.
        rna_input
            Kind of the RNA values. ``"auto"`` interprets non-negative whole numbers as counts,
            entries of ``obsm`` as a representation, and all others as normalised values. Values
            that are not whole numbers but too large for logarithms, as after correction of counts,
            are interpreted as counts with a warning.
        adt_input
            Kind of the ADT values, as ``rna_input``.
        exclude
            Names of proteins that are not used. If not given, isotype controls, hashtags and
            unmapped reads, which are recognised by their names, and proteins that are 0 in all
            cells; ``()`` excludes nothing. They stay in the data, and queries need not have them.
            Proteins that are NaN in all cells of some batches (``batch_key``) are treated as not
            measured there: they are left out of the normalisation of a cell and of losses, and
            their features are estimated from cells of the same state.
        check_sizes
            Whether to reject an RNA modality that has fewer features than the ADT modality and no
            more than an antibody panel, since the modalities were probably swapped.
        **kwargs
            Not accepted: arguments of other models raise an error that names the equivalent.

        Raises
        ------
        TypeError
            If ``mdata`` is not a MuData, values are not real numbers, or an argument is unknown.
        ValueError
            If the data cannot be used as specified; the message names the argument, the modality,
            the first offending items and the remedy.

        Examples
        --------
        >>> IndiSeek.setup_mudata(mdata, batch_key="batch", rna_input="counts")
        """
        setup_method_args = cls._get_setup_method_args(**locals())  # before other locals
        _setup.check_further_arguments(kwargs, setup_method_args["setup_args"])
        check_flag("check_sizes", check_sizes)
        if exclude is not None and not isinstance(exclude, str):
            setup_method_args["setup_args"]["exclude"] = check_several("exclude", exclude)
        manager = _setup.register(mdata, setup_method_args)
        # A copy has the same identifier as the original, under which scvi-tools would store it
        # instead of the original.
        known = cls._setup_adata_manager_store.get(manager.adata_uuid)
        if known is not None and known.adata is not mdata:
            mdata.uns[SCVI_UUID] = manager.registry[SCVI_UUID] = str(uuid4())
        cls.register_manager(manager)

    @classmethod
    def setup_anndata(cls, adata: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an error, since the model needs two modalities.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"{cls.__name__} reads two modalities: combine them by mdata = mudata.MuData({{'rna': rna, 'adt': adt}}), or "
            "divide an AnnData that has both by mdata = indiseek_sc.io.split_anndata(adata), and call "
            f"{cls.__name__}.setup_mudata(mdata)."
        )

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, np.ndarray]:
        """Return the names of the features that the model reads, by modality; data are not needed.

        Parameters
        ----------
        legacy_mudata_format
            Return one array of all names of ``mdata`` instead, as in scvi-tools.

        Returns
        -------
        Names in the order that the model expects, each of shape ``(n_features,)``; a modality that
        is read from ``obsm`` is left out.

        Examples
        --------
        >>> list(model.get_var_names())
        ['rna', 'adt']
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
        """Check that a MuData can be read by this model, and register it.

        Data that were not registered are checked as in :meth:`setup_mudata`. Of registered data a
        sample of cells is checked, since values may have been changed in place. A view is always
        copied, even if ``copy_if_view`` is False, since registration writes to the data.

        Parameters
        ----------
        adata
            Data to check; the data of the model if not given.
        copy_if_view
            Not used; for compatibility with scvi-tools.
        roles
            Modalities that are needed.
        max_missing
            Largest share of missing features.
        """
        own: MuData | None = self.adata
        mdata = own if adata is None else adata
        if mdata is None:
            raise ValueError("mdata: the model was loaded without data, so it needs a MuData here.")
        if _setup.is_view(mdata):
            mdata = mdata.copy()
            if self._copied is not None and (manager := self.get_anndata_manager(self._copied)) is not None:
                # scvi-tools would keep a reference to the previous copy.
                self._per_instance_manager_store[self.id].pop(manager.adata_uuid, None)
            self._copied = mdata
        managers = self._per_instance_manager_store.get(self.id, {}).values()
        is_known = any(manager.adata is mdata for manager in managers)  # and so was logged before
        _setup.check_query(
            self, mdata, roles, max_missing=max_missing, is_sample_enough=mdata is own, is_quiet=is_known
        )
        manager = self.get_anndata_manager(mdata)
        if manager is None:
            manager = _setup.register_query(mdata, self.registry_)
            self._register_manager_for_instance(manager)
        manager.validate()
        # scvi-tools does not set this for copies, and would load them by `setup_anndata`.
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
    take_over = _take_over.take_over
    lambda_path = _lambda_path.lambda_path
    train_prediction = _prediction_training.train_prediction

    @property
    def chosen_path(self) -> LambdaPath | None:
        """Trade-off curve by which lambda was chosen; None if lambda was given."""
        return _lambda_path.get_chosen_path(self)

    @property
    def split(self) -> Split:
        """Row numbers of the training, validation and test cells in the data of the model.

        Cells are identified by their names and values.
        """
        if not self.split_ or self._adata is None:
            raise AttributeError("split: the model is not trained, or has no data.")
        return find_split(self, self._adata)

    @property
    def train_indices(self) -> np.ndarray | None:
        """Row numbers of the training cells in the data of the model.

        None before training, or without data.
        """
        return self.split.train if self.split_ and self._adata is not None else None

    @property
    def validation_indices(self) -> np.ndarray | None:
        """Row numbers of the validation cells, as :attr:`train_indices`."""
        return self.split.validation if self.split_ and self._adata is not None else None

    @property
    def test_indices(self) -> np.ndarray | None:
        """Row numbers of the held-out cells, as :attr:`train_indices`."""
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
    feature_importance = _importance.feature_importance
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
            chosen = "" if self.chosen_path is None else ", chosen on validation cells"
            self._model_summary_string += f" Lambda {self.lambda_:g}{chosen}."
        return super().__repr__()
