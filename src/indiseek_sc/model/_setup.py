"""``setup_mudata``: what a MuData must be, and how the model remembers it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data.fields import MuDataCategoricalObsField
from scvi.model.base import BaseModelClass

from indiseek_sc._keys import ROLES
from indiseek_sc._text import listing
from indiseek_sc.data import (
    MODALITY_ARGUMENT,
    InputField,
    check_batch,
    check_features,
    check_not_overwritten,
    check_not_swapped,
    check_structure,
    complete_modalities,
    examine_values,
    locate_batch,
    locate_source,
    read_batch,
    read_input,
    relocate_source,
)
from indiseek_sc.nn import InputKind, get_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.data import BatchColumn, InputSource, RequestedKind, ValueScan

logger = logging.getLogger("scvi.indiseek_sc")  # below scvi's logger, whose messages users see


class SetupMixin(BaseModelClass):
    """The input side of a model: registration of a MuData, and checks of every MuData that comes in later."""

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        adt_layer: str | None = None,
        batch_key: str | None = None,
        *,
        modalities: Mapping[str, str] | None = None,
        rna_obsm_key: str | None = None,
        adt_obsm_key: str | None = None,
        rna_input: RequestedKind = "auto",
        adt_input: RequestedKind = "auto",
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
            Paired cells: both modalities hold the same cells in the same order. Values may be dense or sparse, of any
            number type, in memory or in a backed file.
        rna_layer
            Layer of the RNA modality with the values; ``.X`` if not given.
        adt_layer
            The same for ADT.
        batch_key
            Column with the batch of each cell, in ``mdata.obs`` or in ``obs`` of a modality, with or without
            ``"<modality>:"`` before it. What a batch adds to all its cells is taken out of the features (``IndiSeek(batch_offsets=...)``), specific
            codes are made independent of the batch, decoders know it, and the joint code is decoded as for cells of no certain one. What a
            batch does to some kinds of cells more than to others stays in shared codes: where a report says that it is much, take it out of
            both modalities first, such as by Harmony, and name the results by ``rna_obsm_key`` and ``adt_obsm_key``. A column that is a
            condition too, such as a disease, loses what the condition does to all cells.
        modalities
            Names of the modalities, by argument: ``{"rna_layer": "rna", "adt_layer": "adt"}`` if not given.
            ``"batch_key"`` may name the modality whose ``obs`` holds the batch.
        rna_obsm_key
            Read RNA from this entry of ``obsm``, of the modality or of ``mdata``, such as principal components.
        adt_obsm_key
            The same for ADT.
        rna_input
            What the values of RNA are. ``"auto"`` takes non-negative whole numbers for counts, entries of ``obsm`` for
            a representation, and all else for normalised values.
        adt_input
            The same for ADT.
        check_sizes
            Refuse an RNA modality that has fewer features than the ADT modality and no more than a panel of antibodies
            has, since they were probably swapped.
        **kwargs
            Passed to :meth:`scvi.data.AnnDataManager.register_fields`; ``load`` gives the registry of the saved model.

        Raises
        ------
        TypeError
            If ``mdata`` is no MuData, or values are not real numbers.
        ValueError
            If the data cannot be used as told; the message names the argument, the modality, the first offenders and
            the remedy.

        Examples
        --------
        >>> IndiSeek.setup_mudata(mdata, rna_layer="counts", batch_key="donor", modalities={"adt_layer": "prot"})
        """
        setup_method_args = cls._get_setup_method_args(**locals())  # first, before there are other locals
        arguments = setup_method_args["setup_args"]
        arguments["modalities"] = complete_modalities(modalities)
        sources, batch = _locate(mdata, arguments)
        if (registry := kwargs.get("source_registry")) is not None:
            _check_same(mdata, sources, batch, registry)
        examined = {role: examine_values(mdata, source, arguments[f"{role}_input"]) for role, source in sources.items()}
        for role, source in sources.items():
            kind, scan = examined[role]
            arguments[f"{role}_input"] = kind  # so that `load` does not look again and find something else
            if registry is None:
                _report(mdata, source, kind, scan)

        manager = AnnDataManager(
            fields=[
                *(InputField(source, examined[role][0]) for role, source in sources.items()),
                # The batch comes last: it alone writes to the data.
                MuDataCategoricalObsField(
                    REGISTRY_KEYS.BATCH_KEY, batch and batch.key, mod_key=batch and batch.modality
                ),
            ],
            setup_method_args=setup_method_args,
            # Ours is stricter about the two modalities that are used, and lets others have fewer cells.
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_anndata(cls, adata: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Not there: the model needs two modalities.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"{cls.__name__} reads two modalities: put them together by mudata.MuData({{'rna': rna, 'adt': adt}}) "
            f"and call {cls.__name__}.setup_mudata."
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
        inputs = [read_input(self.registry_, role) for role in ROLES]
        return {source.modality: state["column_names"] for source, state in inputs if source.attribute != "obsm"}

    def _validate_anndata(self, adata: MuData | None = None, copy_if_view: bool = True) -> MuData:
        """Check that a MuData can take the place of the one that was set up, and register it for this model.

        Data that were not set up are looked at as in :meth:`setup_mudata`; of those that were, a sample of cells, since
        they may have been normalised in place since. A view is refused whatever ``copy_if_view`` says.
        """
        mdata = self._adata if adata is None else adata
        if mdata is None:
            raise ValueError("adata: the model was loaded without data, so it needs a MuData here.")
        # A model loaded without data has no manager; then scvi-tools runs `setup_mudata`, which looks at all values.
        is_sample_enough = mdata is self._adata or self._adata_manager is None
        _check_query(mdata, self.registry_, is_sample_enough=is_sample_enough)
        super()._validate_anndata(mdata, copy_if_view=False)
        # scvi-tools forgets this in every transfer to other data, and would then load by `setup_anndata`.
        self.get_anndata_manager(mdata, required=True).registry["setup_method_name"] = "setup_mudata"
        return mdata


def _locate(mdata: MuData, arguments: Mapping[str, Any]) -> tuple[dict[Role, InputSource], BatchColumn | None]:
    """Find what the arguments of the set-up name, in a MuData whose structure is checked first."""
    names = arguments["modalities"]
    modalities = {role: names[MODALITY_ARGUMENT[role]] for role in ROLES}
    check_structure(mdata, modalities)
    sources = {
        role: locate_source(mdata, role, modalities[role], arguments[f"{role}_layer"], arguments[f"{role}_obsm_key"])
        for role in ROLES
    }
    check_not_overwritten(sources)
    if arguments["check_sizes"]:
        check_not_swapped(mdata, sources)
    batch = locate_batch(mdata, arguments["batch_key"], names.get("batch_key"), list(modalities.values()))
    if batch is not None:
        check_batch(mdata, batch)
    return sources, batch


def _check_same(
    mdata: MuData, sources: Mapping[Role, InputSource], batch: BatchColumn | None, registry: Mapping[str, Any]
) -> None:
    """Refuse features and batches that are not those of a registered model."""
    for role, source in sources.items():
        check_features(mdata, source, read_input(registry, role)[1]["column_names"])
    if batch is not None:
        check_batch(mdata, batch, known=read_batch(registry)[1])


def _check_query(mdata: MuData, registry: Mapping[str, Any], *, is_sample_enough: bool) -> None:
    """Refuse a MuData that a registered model cannot read."""
    inputs = {role: read_input(registry, role) for role in ROLES}
    check_structure(mdata, {role: source.modality for role, (source, _) in inputs.items()})
    sources = {role: relocate_source(mdata, source) for role, (source, _) in inputs.items()}
    _check_same(mdata, sources, read_batch(registry)[0], registry)
    for role, source in sources.items():
        examine_values(mdata, source, inputs[role][1]["kind"], is_sample_enough=is_sample_enough)


def _report(mdata: MuData, source: InputSource, kind: InputKind, scan: ValueScan) -> None:
    """Say in a line what an input is taken for, and which cells and features hold nothing."""
    word = source.feature_word
    what = {"counts": "counts", "normalized": "normalised values", "representation": "a representation"}[kind]
    logger.info(
        f"{source.role}: {what} in {source} ({mdata.n_obs:,} cells, {scan.n_nonzero_per_column.size:,} {word}): "
        f"{get_recipe(source.role, kind)}."
    )
    if kind == "representation":
        return
    if scan.empty_columns.size:
        names = source.get_feature_names(mdata)[scan.empty_columns]
        logger.info(f"{source.role}: {names.size:,} {word} are 0 in all cells: {listing(names)}.")
    if scan.empty_rows.size:
        cells = mdata.obs_names[scan.empty_rows]
        logger.warning(f"{source.role}: {cells.size:,} cells are 0 in all {word}: {listing(cells)}.")
