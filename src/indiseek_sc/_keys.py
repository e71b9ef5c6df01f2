"""Every name that the package writes into a MuData, in one place."""

from __future__ import annotations

from typing import Literal

Role = Literal["rna", "adt"]
"""The part that a modality plays in the model, whatever the user calls it."""

ROLES: tuple[Role, Role] = ("rna", "adt")

JOINT = "X_indiseek"
"""``obsm``: the joint representation, made for neighbours and clustering."""

THETA = "indiseek_theta"
"""``obs``: log ratio of the neighbourhood purities of a cell in the two specific representations."""

SPLIT = "indiseek_split"
"""``obs``: ``train``, ``validation`` or ``test``: what the model did with a cell."""

PADDED = "indiseek_is_missing"
"""``var`` of a modality: features that were not measured and are there to make those of a model complete; they are not read."""

SETTINGS = "indiseek"
"""``uns``: which modality plays which role, the settings of the model, its version."""

MAPS_BEFORE = "indiseek_maps"
"""``uns``: the UMAPs that were there before the representations were written, and so are not of them."""

IMPORTANCE = "indiseek_importance"
"""``uns``: the table of theta by label, with intervals."""

RANK_CORRELATION = "indiseek_rank_correlation"
"""``uns``: the table of rank correlations of theta with weights of weighted nearest neighbours, by representation."""

RETRIEVAL = "indiseek_retrieval"
"""``uns``: how well cells find themselves in the other modality, by direction."""

CLUSTERS = "indiseek_clusters"
"""``uns``: how alike the clusters of representations are."""

DIMENSIONS = "indiseek_dimensions"
"""``uns``: what each dimension of the specific representations follows."""

ATTRIBUTION = "indiseek_attribution"
"""``uns``: by modality and kind of representation, what the loadings in ``varm`` are."""

WNN = "indiseek_wnn"
"""``uns``: what the weights of weighted nearest neighbours were computed from, and how."""

WNN_NEIGHBORS = "wnn"
"""``uns``: the graph of weighted nearest neighbours, as scanpy notes graphs; the matrices are in ``obsp``."""

REFITS = "indiseek_refits"
"""``uns``: widths and arguments of refits, models trained anew on halves of the cells."""

REFITS_HELD_OUT = "indiseek_refits_held_out"
"""``obsm``: which cells each refit did not see."""

THETA_SMOOTHED = "indiseek_theta_smoothed"
"""``obs``: mean of :data:`THETA` over neighbouring cells in the joint representation."""

THETAS = (THETA, THETA_SMOOTHED)

RESULTS = (
    *(f"{IMPORTANCE}{latent}" for latent in ("", "_shared", "_both", "_raw")),
    *(RANK_CORRELATION, RETRIEVAL, CLUSTERS, WNN, DIMENSIONS, f"{DIMENSIONS}_shared"),
)
"""``uns``: all that is made of representations and noted with what it was made of."""

SYNTHETIC = "synthetic"
"""``uns``: what is true of a synthetic data set, factor by factor and coordinate by coordinate."""

FACTOR_SHARED = "factor_shared"
"""``obsm``: the true shared factors of a synthetic data set."""

FACTOR_SHARED_SQUARED = "factor_shared_squared"
"""``obsm``: their standardised squares, which a representation may hold while it tells nothing of the sign."""


def factor_private(modality: str) -> str:
    """``obsm`` key of the true factors that ``modality`` alone sees in a synthetic data set."""
    return f"factor_private_{modality}"


def oracle_shared(modality: str) -> str:
    """``obsm`` key of a shared representation that is given with a synthetic data set instead of being learnt."""
    return f"oracle_shared_{modality}"


def has(modality: str) -> str:
    """``obs`` key of which cells have ``modality`` (the user's own name of it), where some lack one."""
    return f"indiseek_has_{modality}"


def shared(modality: str) -> str:
    """``obsm`` key of the shared representation of ``modality`` (the user's own name of it)."""
    return f"X_indiseek_shared_{modality}"


def specific(modality: str) -> str:
    """``obsm`` key of the specific representation of ``modality`` (the user's own name of it)."""
    return f"X_indiseek_specific_{modality}"


def refits(modality: str) -> str:
    """``obsm`` key of the representations of ``modality`` (the user's own name of it) in all refits, side by side."""
    return f"X_indiseek_refits_{modality}"


def loadings(kind: str) -> str:
    """``varm`` key, in each modality, of what its features have for the dimensions of a ``kind`` of representation."""
    return f"indiseek_{kind}"


def wnn_weight(modality: str) -> str:
    """``obs`` key of the weight of ``modality`` (the user's own name of it) among weighted nearest neighbours."""
    return f"{modality}:wnn_weight"


def graph(key: str, matrix: str) -> str:
    """``obsp`` key of a matrix of the graph ``key``, such as ``"connectivities"``, as scanpy names them."""
    return f"{key}_{matrix}"


def graph_points(key: str) -> str:
    """``obsm`` key of what the graph ``key`` was made of, the modalities side by side."""
    return f"X_{key}"


def transferred(label_key: str) -> str:
    """``obs`` key of labels that a cell has by its neighbours in a reference."""
    return f"indiseek_{label_key}"


def transferred_confidence(label_key: str) -> str:
    """``obs`` key of the share of their votes that :func:`transferred` has."""
    return f"indiseek_{label_key}_confidence"


def of_latent(key: str, latent: str) -> str:
    """:data:`THETA`, :data:`IMPORTANCE` or :data:`DIMENSIONS` of a representation: that of the specific one has no suffix."""
    return key if latent == "specific" else f"{key}_{latent}"


def clusters(latent: str) -> str:
    """``obs`` key of the clusters of a representation, by its name such as ``"joint"`` or ``"shared_<modality>"``."""
    return f"{CLUSTERS}_{latent}"


def other(role: Role) -> Role:
    """The role that ``role`` is paired with."""
    return "adt" if role == "rna" else "rna"


REGRESSION_TITLES = {
    "flow": "Normalizing flow",
    "critics": "Critics alone",
    "decoder": "Decoder",
    "prediction": "Prediction of the other modality",
    "prediction_again": "Prediction, validation cells too",
}
"""What the stages that do not end in representations are called where people read it: progress bars and figures."""
