"""Small sets of genes and proteins by which dimensions are named, shipped with the package."""

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
    """Return the sets of genes and proteins that come with the package, as far as ``mdata`` has them.

    Names of features must be symbols, such as ``"MT-CO1"``; they are compared without regard to
    case. The sets are few and small, to recognise what is technical (mitochondrial and ribosomal
    genes, stress of dissociation, haemoglobin, platelets, isotype controls) and what is common
    (cell cycle, interferon response, MHC class II, immunoglobulin). For a wider survey give a
    network of your own to :func:`attribution_enrichment` or :func:`describe_dimensions`.

    Parameters
    ----------
    mdata
        Data whose features are looked up.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as the model
        noted them.

    Returns
    -------
    One row for each set and feature: ``source`` (name of the set) and ``target`` (feature), as
    decoupler has them; ``modality``; ``is_technical``, whether the set stands for handling, quality
    or contamination of a cell; and ``reference``, where the set is described.

    Raises
    ------
    KeyError
        If it is not known which modality is which, or one is not there.
    """
    return match_sets(mdata, find_pair(mdata, modalities))


def match_sets(mdata: MuData, roles: Mapping[_keys.Role, str]) -> pd.DataFrame:
    """As :func:`feature_sets`, of modalities that are known."""
    rows = [
        {"source": name, "target": target, "modality": modality, **about}
        for role, modality in roles.items()
        for name, targets, about in _match(mdata[modality].var_names, role)
        for target in targets
    ]
    return pd.DataFrame(rows, columns=["source", "target", "modality", "is_technical", "reference"])


def _match(names: Iterable[str], role: _keys.Role) -> Iterable[tuple[str, list[str], dict[str, Any]]]:
    """Each set of a role: its name, those of ``names`` that are in it, and what is known of it."""
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
    return tomllib.loads(files("indiseek_sc.tl").joinpath("feature_sets.toml").read_text(encoding="utf-8"))
