"""Where the values of each modality lie in a MuData, and checks that it is suited."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._keys import ROLES, Role
from indiseek_sc._recognise import find_modalities, is_named_after_chromatin
from indiseek_sc._text import N_SHOWN, choices, listing
from indiseek_sc.data._matrix import MatchedMatrix

logger = logging.getLogger("scvi.indiseek_sc")

MODALITY_ARGUMENT: dict[Role, str] = {"rna": "rna_layer", "adt": "adt_layer"}
"""The keys of ``modalities``: scvi-tools maps the arguments of the set-up, not roles, to modality names."""

DEFAULT_MODALITIES: dict[str, str] = {MODALITY_ARGUMENT[role]: role for role in ROLES}
"""The names that modalities usually have."""

FEATURES: dict[Role, str] = {"rna": "genes", "adt": "proteins"}
"""What the features of a role are called in messages."""


@dataclass(frozen=True)
class InputSource:
    """The place of one modality's values.

    Parameters
    ----------
    role
        The part that the modality plays.
    modality
        The user's name of it.
    attribute
        Where the values are.
    key
        Name of the layer or of the ``obsm`` entry.
    is_top_level
        Whether ``obsm`` is that of the MuData itself.
    features
        Names of the features that are read, in this order, wherever they lie: of an antibody panel not all, and of other data
        those of the model. All that are there if not given.
    gaps
        Names of features that batches did not measure, by batch: their values are NaN there.
    """

    role: Role
    modality: str
    attribute: Literal["X", "layers", "obsm"]
    key: str | None = None
    is_top_level: bool = False
    features: tuple[str, ...] | None = None
    gaps: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        holder = "mdata" if self.is_top_level else f"mdata[{self.modality!r}]"
        return f"{holder}.{self.attribute}" + ("" if self.key is None else f"[{self.key!r}]")

    @property
    def feature_word(self) -> str:
        """What the columns are called in messages."""
        if self.attribute == "obsm":
            return "dimensions"
        return "features" if is_named_after_chromatin(self.modality) else FEATURES[self.role]

    def get_stored(self, mdata: MuData) -> Any:
        """Return the values as they are stored, all features of them."""
        holder = getattr(mdata if self.is_top_level else mdata.mod[self.modality], self.attribute)
        return holder if self.key is None else holder[self.key]

    def get_values(self, mdata: MuData, cells: pd.Index | None = None) -> Any:
        """Return the values, shape ``(n_cells, n_features)``, matched by name: the one place where that is done.

        As they are stored if nothing has to be put in order. What is not there is read as 0.

        Parameters
        ----------
        mdata
            The data.
        cells
            Names of the rows; those of :meth:`get_cell_names` if not given.
        """
        rows = columns = None
        if cells is not None and not self.get_cell_names(mdata).equals(cells):
            rows = self.get_cell_names(mdata).get_indexer(cells)
        if self.features is not None:
            columns = self._find_columns(mdata, self.features)
        values = self.get_stored(mdata)
        if rows is None and columns is None and not self.gaps:
            return values
        return MatchedMatrix(values, rows, columns, self.find_gaps() if self.gaps else None)

    def named_gaps(self) -> dict[str, list[str]]:
        """Return ``gaps`` of the features that are read."""
        read = set(self.features or ())
        found = {batch: [name for name in lacking if name in read] for batch, lacking in self.gaps.items()}
        return {batch: lacking for batch, lacking in found.items() if lacking}

    def find_gaps(self, batch: str | None = None) -> np.ndarray:
        """Return which of the named features a batch, or any, did not measure, shape ``(n_features,)``."""
        lacking = [name for of_batch, names in self.gaps.items() if batch in (None, of_batch) for name in names]
        return np.isin(self.features or (), lacking)

    def _find_columns(self, mdata: MuData, features: tuple[str, ...]) -> np.ndarray | None:
        """Return where features lie, -1 where they are not or were not measured; None if they lie as they should."""
        names, is_padded = self.get_stored_names(mdata), self.find_padded(mdata)
        if np.array_equal(names, features) and not is_padded.any():
            return None
        columns = pd.Index(names).get_indexer(features)
        return np.where((columns >= 0) & ~is_padded[columns], columns, -1)

    def find_padded(self, mdata: MuData) -> np.ndarray:
        """Return which of the features that are there were not measured, shape ``(n_stored_features,)``."""
        var = None if self.attribute == "obsm" else mdata.mod[self.modality].var
        if var is None or _keys.PADDED not in var:
            return np.zeros(self.get_stored_names(mdata).size, dtype=bool)
        return var[_keys.PADDED].to_numpy(dtype=bool)

    def get_cell_names(self, mdata: MuData) -> pd.Index:
        """Return the names of the cells of the modality, shape ``(n_cells,)``, which may be fewer than those of ``mdata``."""
        return mdata.obs_names if self.is_top_level else mdata.mod[self.modality].obs_names

    def get_feature_names(self, mdata: MuData) -> np.ndarray:
        """Return the names of the features that are read, shape ``(n_features,)``; numbers as text where an array has no names."""
        return self.get_stored_names(mdata) if self.features is None else np.array(self.features)

    def find_left_out(self, mdata: MuData) -> list[str]:
        """Return the names of features that are there and are not read."""
        read = set(self.get_feature_names(mdata).tolist())
        return [name for name in self.get_stored_names(mdata).tolist() if name not in read]

    def get_stored_names(self, mdata: MuData) -> np.ndarray:
        """Return the names of all features that are there."""
        if self.attribute != "obsm":
            return mdata.mod[self.modality].var_names.to_numpy().astype(str)
        values = self.get_stored(mdata)
        names = values.columns if isinstance(values, pd.DataFrame) else range(values.shape[1])
        return np.array([str(name) for name in names])


def complete_modalities(modalities: Mapping[str, str] | None, mdata: MuData) -> dict[str, str]:
    """Fill in the names of the modalities that the user did not name, as they are found in the data.

    Parameters
    ----------
    modalities
        What the user gave.
    mdata
        The data.

    Raises
    ------
    ValueError
        If a key is no argument of the set-up, both roles are given to one modality, or a modality is not found.
    """
    completed = _read_modalities(modalities)
    allowed = [*DEFAULT_MODALITIES, "batch_key"]
    if unknown := [key for key in completed if key not in allowed]:
        raise ValueError(
            f"modalities: unknown key {unknown[0]!r}. It maps arguments of the set-up to modality names, such as "
            f"{DEFAULT_MODALITIES}. {choices(unknown[0], allowed)}"
        )
    if isinstance(mdata, MuData) and mdata.axis == 0:  # anything else is refused by check_structure, in its own words
        given = {role: completed.get(MODALITY_ARGUMENT[role]) for role in ROLES}
        found = find_modalities(mdata, given, "modalities={{'{role}_layer': 'NAME'}}")
        completed = {**{MODALITY_ARGUMENT[role]: name for role, name in found.items()}, **completed}
    completed = {**DEFAULT_MODALITIES, **completed}
    if completed["rna_layer"] == completed["adt_layer"]:
        raise ValueError(
            f"modalities: {completed['rna_layer']!r} is given as both RNA ('rna_layer') and ADT ('adt_layer'). "
            "Name two different modalities."
        )
    return completed


def _read_modalities(modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Names by argument, as the set-up of TOTALVI calls the arguments too."""
    if modalities is not None and not isinstance(modalities, Mapping):
        raise ValueError(
            f"modalities must map arguments of the set-up to modality names, such as {DEFAULT_MODALITIES}, but is {modalities!r}."
        )
    given: dict[str, str] = {}
    for key, name in (modalities or {}).items():
        argument = "adt_layer" if key == "protein_layer" else key
        if not isinstance(name, str):
            raise ValueError(f"modalities[{key!r}] must be one name, but is {name!r}.")
        if given.setdefault(argument, str(name)) != name:
            raise ValueError(
                f"modalities: 'protein_layer' means 'adt_layer'; {given[argument]!r} and {name!r} are given."
            )
    return given


def locate_source(mdata: MuData, role: Role, modality: str, layer: str | None, obsm_key: str | None) -> InputSource:
    """Find the values that the user named.

    Parameters
    ----------
    mdata
        The data, known to hold ``modality``.
    role
        The part that the modality plays; names the arguments in errors.
    modality
        Its name.
    layer
        Layer of the modality.
    obsm_key
        Entry of the modality's ``obsm``, or of the MuData's if the modality has none of that name.

    Raises
    ------
    ValueError
        If both a layer and an ``obsm`` entry are given, or what is given does not exist.
    """
    adata = mdata.mod[modality]
    layers = [name for name in adata.layers if name is not None]  # anndata 0.13 lists X there, under None
    if obsm_key is not None:
        if layer is not None:
            raise ValueError(f"{role}_layer and {role}_obsm_key are both given. Give the one that holds the values.")
        return _locate_representation(mdata, role, modality, obsm_key)
    if layer is not None:
        if not isinstance(layer, str):
            check_name(f"{role}_layer", layer, layers)
        if layer not in layers:
            raise ValueError(f"{role}_layer={layer!r}: mdata[{modality!r}] has no such layer. {choices(layer, layers)}")
        return InputSource(role, modality, "layers", layer)
    if adata.X is None:
        raise ValueError(
            f"{role}_layer: mdata[{modality!r}].X is empty. Name a layer, or an obsm entry by {role}_obsm_key. "
            f"Layers: {layers}; obsm: {list(adata.obsm)}."
        )
    return InputSource(role, modality, "X")


def relocate_source(mdata: MuData, source: InputSource) -> InputSource:
    """Check that a MuData has values in the place where another one had them.

    Raises
    ------
    ValueError
        If it has not.
    """
    is_obsm = source.attribute == "obsm"
    layer, obsm_key = (None, source.key) if is_obsm else (source.key, None)
    found = locate_source(mdata, source.role, source.modality, layer, obsm_key)
    if found != replace(source, features=None, gaps={}):
        raise ValueError(
            f"{source.role}_obsm_key={source.key!r}: it must be in {source}, as when the model was set up, "
            f"but is in {found}."
        )
    return source


def _locate_representation(mdata: MuData, role: Role, modality: str, key: str) -> InputSource:
    # MuData keeps, under the name of each modality, a mask of the cells that the modality has.
    top_level = [name for name in mdata.obsm if name not in mdata.mod]
    if not isinstance(key, str):
        check_name(f"{role}_obsm_key", key, sorted({*mdata.mod[modality].obsm, *top_level}))
    is_top_level = key not in mdata.mod[modality].obsm
    if not is_top_level or key in top_level:
        source = InputSource(role, modality, "obsm", key, is_top_level=is_top_level)
        values = source.get_values(mdata)
        if getattr(values, "ndim", None) != 2:
            shape = getattr(values, "shape", None)
            what = f"is of type {type(values).__name__}" if shape is None else f"has the shape {tuple(shape)}"
            holder = str(source).removesuffix(f"[{key!r}]")
            raise ValueError(
                f"{role}_obsm_key={key!r}: {source} must be a matrix of cells by dimensions, but {what}. Make one: "
                f"{holder}[{f'{key}_flat'!r}] = {source}.reshape(len({source}), -1); then {role}_obsm_key={f'{key}_flat'!r}."
            )
        return source
    existing = sorted({*mdata.mod[modality].obsm, *top_level})
    raise ValueError(
        f"{role}_obsm_key={key!r}: neither mdata[{modality!r}].obsm nor mdata.obsm has such an entry. "
        f"{choices(key, existing)}"
    )


LARGEST_PANEL = 500
"""More features than this are not taken for a panel of antibodies."""


def check_structure(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """Refuse a MuData whose cells and features are not known by their names, or whose modalities pair cells wrongly.

    Parameters
    ----------
    mdata
        The data.
    modalities
        The name of the modality that plays each role that is read.

    Raises
    ------
    TypeError
        If it is no MuData.
    ValueError
        If a modality is missing, an object is a view, names occur twice, all modalities hold all cells but in another order, or
        a modality has the name of an ``obsm`` entry that the model writes.
    """
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"mdata must be a MuData, but is {type(mdata).__name__}. "
            "Put two AnnData objects together by mudata.MuData({'rna': rna, 'adt': adt})."
        )
    if mdata.axis != 0:
        raise ValueError("mdata: its modalities share features (axis=1). Build it with mudata.MuData(..., axis=0).")
    for role, modality in modalities.items():
        if modality not in mdata.mod:
            existing = choices(modality, list(mdata.mod))
            raise ValueError(f"modalities[{MODALITY_ARGUMENT[role]!r}]: no modality {modality!r} in mdata. {existing}")
    _check_is_actual(mdata, modalities)
    _check_written_keys(mdata, modalities)
    for role, modality in modalities.items():
        check_names(mdata, modality, FEATURES[role])
    for other in mdata.mod.keys() - set(modalities.values()):  # its repeated cells are rows of mdata
        remedy = f"take it out: del mdata.mod[{other!r}]"
        _check_unique(mdata.mod[other].obs_names, other, "cells", "obs_names", remedy)
    _bring_up_to_date(mdata)
    if all(mdata.mod[modality].n_obs == mdata.n_obs for modality in modalities.values()):
        _check_order(mdata, modalities.values())


def _check_is_actual(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    views = [f"mdata[{modality!r}]" for modality in modalities.values() if mdata.mod[modality].is_view]
    if mdata.is_view or views:
        what = "mdata" if mdata.is_view else " and ".join(views)
        raise ValueError(f"mdata: {what} is a view of other data. Make it an object of its own: mdata = mdata.copy()")


def _check_written_keys(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """MuData keeps under ``obsm[modality]`` which cells it has; writing representations there would break the pairing."""
    for key in get_written_keys(modalities):
        if key in mdata.mod:
            raise ValueError(
                f"mdata: the modality {key!r} has the name of an obsm entry that the model writes. Rename it: "
                f"mdata = mudata.MuData({{'NEW' if name == {key!r} else name: mod for name, mod in mdata.mod.items()}})"
            )


def get_written_keys(modalities: Mapping[Role, str]) -> list[str]:
    """Return the ``obsm`` entries that a model of these modalities writes."""
    return [
        _keys.JOINT,
        *(name(modality) for modality in modalities.values() for name in (_keys.shared, _keys.specific)),
    ]


def check_names(mdata: MuData, modality: str, word: str) -> None:
    """Refuse cells or features of a modality of which several have one name."""
    adata = mdata.mod[modality]
    remedy = "name them apart in every modality, for instance by their batch, and build the MuData again"
    _check_unique(adata.obs_names, modality, "cells", "obs_names", remedy)
    remedy = f"mdata[{modality!r}].var_names_make_unique(); mdata.update()"
    _check_unique(adata.var_names, modality, word, "var_names", remedy)


def _check_unique(names: pd.Index, modality: str, word: str, attribute: str, remedy: str) -> None:
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    raise ValueError(
        f"mdata[{modality!r}].{attribute}: {repeated.size:,} names of {word} occur more than once: "
        f"{listing(repeated)}. Remedy: {remedy}"
    )


def _bring_up_to_date(mdata: MuData) -> None:
    """Let a MuData know which cells each modality has, where one was filtered or taken out and ``update`` forgotten.

    Until then it cannot be subset. It keeps its cells, all of which some modality still has.

    Raises
    ------
    ValueError
        If its cells are others too.
    """
    stale = [name for name, adata in mdata.mod.items() if not _is_current(adata.obs_names, mdata, name)]
    if not stale and mdata.obs_names.is_unique:
        return
    if not set().union(*(adata.obs_names for adata in mdata.mod.values())) == set(mdata.obs_names):
        name = next(iter(stale), next(iter(mdata.mod)))
        n_cells = mdata.mod[name].n_obs
        what = f"has {n_cells:,} cells" if n_cells != mdata.n_obs else "calls its cells otherwise"
        raise ValueError(
            f"mdata: mdata[{name!r}] {what}, but mdata was last updated with {mdata.n_obs:,} of other names. "
            "Remedy: mdata.update()"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of columns that MuData will not copy any more
        mdata.update()
    logger.info("mdata was updated: since it was made, cells or modalities were taken out.")


def _is_current(names: pd.Index, mdata: MuData, modality: str) -> bool:
    """Whether a MuData knows where the cells of a modality are."""
    place = np.asarray(mdata.obsmap[modality]).ravel().astype(np.int64)  # from 1; 0 where the modality lacks the cell
    has = place > 0
    return int(has.sum()) == names.size and bool((names[place[has] - 1] == mdata.obs_names[has]).all())


def _check_order(mdata: MuData, modalities: Iterable[str]) -> None:
    """The model would read cells by their names, but much else pairs them by their rows."""
    for modality in modalities:
        names = mdata.mod[modality].obs_names
        if mdata.obs_names.equals(names):
            continue
        moved = np.flatnonzero(mdata.obs_names != names)
        pairs = [f"row {i}: {mdata.obs_names[i]!r} against {names[i]!r}" for i in moved[:N_SHOWN]]
        raise ValueError(
            f"mdata[{modality!r}].obs_names: {moved.size:,} cells lie in another order than in mdata.obs_names "
            f"({'; '.join(pairs)}), so rows would be paired wrongly. Remedy: mdata = mdata[mdata.obs_names].copy()"
        )


def check_paired(mdata: MuData, modalities: Mapping[Role, str]) -> str:
    """Refuse a MuData in which no cell has all modalities, and say which cells lack one.

    Returns
    -------
    A sentence; empty if no cell lacks any.

    Raises
    ------
    ValueError
        If no cell has all.
    """
    has = {name: mdata.obs_names.isin(mdata.mod[name].obs_names) for name in modalities.values()}
    n_paired = int(np.logical_and.reduce(list(has.values())).sum())
    if not n_paired:
        calls = "; ".join(f"in mdata[{name!r}] {listing(mdata.mod[name].obs_names[:2])}" for name in has)
        raise ValueError(
            f"mdata: no cell has both modalities. Cells are known by their names, which are {calls}: "
            "call each cell the same in both, and build the MuData again."
        )
    gaps = [
        f"{(~of).sum():,} lack {name!r}: {listing(mdata.obs_names[~of])}" for name, of in has.items() if not of.all()
    ]
    return f"{'; '.join(gaps)}. The model learns from the {n_paired:,} cells with both." if gaps else ""


def check_not_swapped(mdata: MuData, sources: Mapping[Role, InputSource]) -> None:
    """Refuse a small RNA modality beside a larger ADT modality: most likely each was given as the other.

    Raises
    ------
    ValueError
        If there are fewer genes than proteins, and few enough to be a panel of antibodies.
    """
    if any(source.attribute == "obsm" for source in sources.values()):
        return
    rna, adt = (sources[role].modality for role in ROLES)
    n_genes, n_proteins = mdata.mod[rna].n_vars, mdata.mod[adt].n_vars
    if n_genes < n_proteins and n_genes <= LARGEST_PANEL:
        raise ValueError(
            f"modalities: {rna!r}, given as RNA, has {n_genes:,} features and {adt!r}, given as ADT, has "
            f"{n_proteins:,}, so they seem swapped. If so: modalities={{'rna_layer': {adt!r}, 'adt_layer': {rna!r}}}; "
            "if not: check_sizes=False"
        )


def check_not_overwritten(sources: Mapping[Role, InputSource]) -> None:
    """Refuse to read from an ``obsm`` entry that the model writes.

    Raises
    ------
    ValueError
        If an input is one of the entries that a model writes.
    """
    written = get_written_keys({role: source.modality for role, source in sources.items()})
    for role, source in sources.items():
        if source.is_top_level and source.key in written:
            raise ValueError(
                f"{role}_obsm_key={source.key!r}: the model writes this obsm entry, so its input would be overwritten. "
                f"Copy it under another name: mdata.obsm['my_latents'] = mdata.obsm[{source.key!r}].copy()"
            )
