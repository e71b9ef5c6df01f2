"""Every name that the package writes into a MuData, in one place."""

from __future__ import annotations

from typing import Literal

Role = Literal["rna", "adt"]
"""The part that a modality plays in the model, whatever the user calls it."""

ROLES: tuple[Role, Role] = ("rna", "adt")

JOINT = "X_indiseek"
"""``obsm``: the joint code, made for neighbours and clustering."""

THETA = "indiseek_theta"
"""``obs``: log ratio of the neighbourhood purities of a cell in the two specific codes."""

SPLIT = "indiseek_split"
"""``obs``: ``train``, ``validation`` or ``test``: what the model did with a cell."""

SETTINGS = "indiseek"
"""``uns``: which modality plays which role, the settings of the model, its version."""

IMPORTANCE = "indiseek_importance"
"""``uns``: the table of theta by label, with intervals."""


def shared(modality: str) -> str:
    """``obsm`` key of the shared code of ``modality`` (the user's own name of it)."""
    return f"X_indiseek_shared_{modality}"


def specific(modality: str) -> str:
    """``obsm`` key of the specific code of ``modality`` (the user's own name of it)."""
    return f"X_indiseek_specific_{modality}"


def other(role: Role) -> Role:
    """The role that ``role`` is paired with."""
    return "adt" if role == "rna" else "rna"
