"""Small sets of genes and proteins, included in the package, that help to name dimensions."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._recognise import find_not_proteins
from indiseek_sc.tl._latents import find_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mudata import MuData


def feature_sets(mdata: MuData, *, modalities: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the gene and protein sets of the package, restricted to features of ``mdata``.

    Features must be named by symbols, such as ``"MT-CO1"``; case is ignored. The sets are few and
    small. They serve to recognise technical variation (mitochondrial and ribosomal genes,
    dissociation stress, haemoglobin, platelets, isotype controls) and common programmes (cell
    cycle, interferon response, MHC class II, immunoglobulin). For a broader survey pass your own
    network to :func:`attribution_enrichment` or :func:`describe_dimensions`.

    Parameters
    ----------
    mdata
        Data whose features are looked up.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by the
        model.

    Returns
    -------
    One row for each set and feature: ``source`` (name of the set) and ``target`` (feature), as used
    by decoupler; ``modality``; ``is_technical``, whether the set indicates handling, quality or
    contamination of a cell; and ``reference``, the publication that describes the set.

    Raises
    ------
    KeyError
        If the roles of the modalities are unknown, or a modality is missing.

    Examples
    --------
    >>> isk.tl.feature_sets(mdata).columns.tolist()
    ['source', 'target', 'modality', 'is_technical', 'reference']
    """
    return match_sets(mdata, find_pair(mdata, modalities))


def match_sets(mdata: MuData, roles: Mapping[_keys.Role, str]) -> pd.DataFrame:
    """Return :func:`feature_sets` for modalities whose roles are known."""
    rows = [
        {"source": name, "target": target, "modality": modality, **about}
        for role, modality in roles.items()
        for name, targets, about in _match(mdata[modality].var_names, role)
        for target in targets
    ]
    return pd.DataFrame(rows, columns=["source", "target", "modality", "is_technical", "reference"])


def _match(names: Iterable[str], role: _keys.Role) -> Iterable[tuple[str, list[str], dict[str, Any]]]:
    """Yield the sets of a role: name, the members among ``names``, and properties of the set."""
    names = [str(name) for name in names]
    not_proteins = find_not_proteins(names) if role == "adt" else {}
    for name, one in _read().items():
        if one["role"] != role:
            continue
        if "pattern" in one:
            pattern = re.compile(one["pattern"], re.IGNORECASE)
            targets = [feature for feature in names if pattern.search(feature)]
        elif "recognised" in one:
            targets = not_proteins.get(one["recognised"], [])
        else:
            symbols = set(one["features"])
            targets = [feature for feature in names if feature.upper() in symbols]
        yield name, targets, {"is_technical": one["technical"], "reference": one["reference"]}


@cache
def _read() -> dict[str, dict[str, Any]]:
    """Read the definitions of the sets."""
    return tomllib.loads(files("indiseek_sc.tl").joinpath("feature_sets.toml").read_text(encoding="utf-8"))
