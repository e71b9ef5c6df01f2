"""Recognition, by their names, of the roles of modalities and of features that are not proteins."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from indiseek_sc._keys import ROLES, Role
from indiseek_sc._text import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData

_ROLE_NAMES: dict[Role, set[str]] = {
    "rna": {"rna", "gex", "geneexpression", "mrna", "transcriptome"},
    "adt": {
        "adt",
        "prot",
        "protein",
        "proteins",
        "ab",
        "antibody",
        "antibodies",
        "antibodycapture",
        "proteinexpression",
    },
}
"""Names of modalities and of 10x feature types, reduced to lower-case letters and digits."""

_WORDS: dict[Role, str] = {"rna": "RNA", "adt": "proteins"}

_PEAK = re.compile(r"^(chr)?[\w.]+[:_-]\d{3,}[-_]\d{3,}$")


def role_of(name: object) -> Role | None:
    """Return the role of a modality or 10x feature type by its name; None if not recognised."""
    plain = re.sub(r"[^a-z0-9]", "", str(name).lower())
    return next((role for role in ROLES if plain in _ROLE_NAMES[role]), None)


def is_named_after_chromatin(name: str) -> bool:
    """Return whether the name of a modality or feature type denotes accessible chromatin."""
    return bool(re.search(r"atac|peak|chromatin", name.lower()))


def find_modalities(mdata: MuData, given: Mapping[Role, str | None], argument: str) -> dict[Role, str]:
    """Find the RNA and protein modalities by their names, or else by their 10x feature types.

    Parameters
    ----------
    mdata
        The data.
    given
        Names given by the user, by role; these are taken as they are.
    argument
        How a user names a modality, for error messages; contains ``{role}``.

    Raises
    ------
    ValueError
        If no modality or several modalities match a role, or if the features of the matching one
        are genomic regions.
    """
    found: dict[Role, str] = {}
    for role in ROLES:
        name = given.get(role)
        if name is not None:
            found[role] = name
            continue
        candidates = [name for name in mdata.mod if role_of(name) == role]
        candidates = candidates or [name for name in mdata.mod if _role_of_features(mdata, name) == role]
        if len(candidates) != 1:
            number = "several modalities" if candidates else "no modality"
            peaks = [name for name in mdata.mod if are_peaks(mdata.mod[name].var_names)]
            about_peaks = f" ({listing(peaks)}: accessible chromatin, not proteins)" if peaks and role == "adt" else ""
            raise ValueError(
                f"{number} of {_WORDS[role]} among {listing(candidates or mdata.mod)}{about_peaks}, judging by names. "
                f"{'Say which' if candidates or not peaks else 'If there is one, name it'}: "
                f"{argument.format(role=role)}"
            )
        found[role] = candidates[0]
        check_not_peaks(mdata, candidates[0], role)
    return found


def _role_of_features(mdata: MuData, name: str) -> Role | None:
    types = mdata.mod[name].var.get("feature_types", [])
    roles = {role_of(kind) for kind in set(types)}
    return roles.pop() if len(roles) == 1 else None


def check_not_peaks(mdata: MuData, name: str, role: Role) -> None:
    """Raise an error if a modality of genes or proteins contains accessible chromatin.

    Raises
    ------
    ValueError
        If most features of the modality are genomic regions.
    """
    if are_peaks(mdata.mod[name].var_names):
        raise ValueError(
            f"{name!r} contains accessible chromatin (features such as {mdata.mod[name].var_names[0]!r}), not "
            f"{_WORDS[role]}. CITE-seq data "
            f"need a modality of {_WORDS[role]}. To analyse two modalities of another kind, use Python: "
            f"IndiSeek.setup_mudata(mdata, modalities={{'{role}_layer': {name!r}, ...}})."
        )


def are_peaks(names: Sequence[str]) -> bool:
    """Return whether most of the first features are genomic regions, such as ``chr1-1000-1500``."""
    some = [str(name) for name in names[:100]]
    return sum(bool(_PEAK.match(name)) for name in some) > len(some) / 2


_CHAIN = r"( ?(kappa|lambda|k|κ|λ))?"
_ISOTYPES = (
    r"isotype",
    rf"igg\d?[abc]?{_CHAIN} ?iso\b",  # IgG2aKiso
    r"\big[gmade]\w*( \w+)* (control|ctrl)\b",  # IgG1_control
    r"\b(control|ctrl)( \w+)* ig[gmade]",  # Ctrl_IgG1
    rf"^(mouse|rat|(armenian |syrian )?hamster|goat|rabbit|m|r) ?ig[gmade]\d?[abc]?{_CHAIN}$",  # Mouse IgG1, kappa
    rf"^igg([13]|2[abc]?){_CHAIN}$",  # IgG2a; plain IgG, IgM and IgD are proteins of B cells
    r"\b(mopc|mpc) ?\d+|\brtk ?\d{4}|\bhtk ?888",  # clones
)
_NOT_PROTEINS = {
    "isotype controls": re.compile("|".join(_ISOTYPES)),
    "hashtags": re.compile(r"hash ?tag|(^|[^a-z])(hto|cmo|lmo)([^a-z]|$)|sample ?tag|^multi ?seq"),
    "unmapped": re.compile(r"^(unmapped|no match|unassigned|ambiguous|bad struct|total reads)$"),
}
"""Patterns of names in lower case with single spaces between words, by kind."""


def find_not_proteins(names: Iterable[str]) -> dict[str, list[str]]:
    """Find features of an antibody panel that do not measure cellular proteins, by their names.

    Parameters
    ----------
    names
        Names of all features.

    Returns
    -------
    The given names in their order, by kind: ``"isotype controls"``, ``"hashtags"``, ``"unmapped"``.
    Kinds without any name are omitted.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        plain = re.sub(r"[\W_]+", " ", str(name).lower()).strip()
        plain = re.sub(r" total ?seq ?[abcd]?$", "", plain)
        kind = next((kind for kind, pattern in _NOT_PROTEINS.items() if pattern.search(plain)), None)
        if kind is not None:
            found.setdefault(kind, []).append(name)
    return found


def check_known(argument: str, wanted: Iterable[str], existing: Sequence[str]) -> None:
    """Raise an error for names that do not exist.

    Raises
    ------
    ValueError
        If a name does not exist; the message lists these names and similar existing ones.
    """
    if unknown := [name for name in wanted if name not in set(existing)]:
        by_lower_case = {str(name).lower(): str(name) for name in existing}
        near = [by_lower_case[name] for name in get_close_matches(str(unknown[0]).lower(), by_lower_case, n=3)]
        meant = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Available: {listing(existing)}."
        raise ValueError(f"{argument}: there is no {listing(unknown)}. {meant}")
