"""All keys that the package writes to a MuData."""

from __future__ import annotations

from typing import Literal

Role = Literal["rna", "adt"]
"""Role of a modality in the model, independent of the user's name for it."""

ROLES: tuple[Role, Role] = ("rna", "adt")

JOINT = "X_indiseek"
"""``obsm``: the joint representation, for neighbour graphs and clustering."""

THETA = "indiseek_theta"
"""``obs``: log ratio of the neighbourhood purities in the two specific representations."""

SPLIT = "indiseek_split"
"""``obs``: ``train``, ``validation`` or ``test``: the use of each cell by the model."""

PADDED = "indiseek_is_missing"
"""``var``: features of the model that were not measured; their values are not read."""

SETTINGS = "indiseek"
"""``uns``: roles of modalities, settings of the model, and version."""

EARLIER_UMAPS = "indiseek_maps"
"""``uns``: the UMAPs that existed before the representations were written."""

IMPORTANCE = "indiseek_importance"
"""``uns``: the table of theta by label, with confidence intervals."""

RANK_CORRELATION = "indiseek_rank_correlation"
"""``uns``: the table of rank correlations between theta and WNN weights, by representation."""

RETRIEVAL = "indiseek_retrieval"
"""``uns``: the table of cross-modal retrieval, by direction."""

CLUSTERS = "indiseek_clusters"
"""``uns``: agreement between clusterings of representations."""

DIMENSIONS = "indiseek_dimensions"
"""``uns``: covariates associated with each dimension of the specific representations."""

ATTRIBUTION = "indiseek_attribution"
"""``uns``: description of the loadings in ``varm``, by modality and kind of representation."""

WNN = "indiseek_wnn"
"""``uns``: inputs and settings of the WNN weights."""

WNN_NEIGHBORS = "wnn"
"""``uns``: graph of weighted nearest neighbours in scanpy's format; matrices are in ``obsp``."""

REFITS = "indiseek_refits"
"""``uns``: dimensions and arguments of refits, models retrained on halves of the cells."""

REFITS_HELD_OUT = "indiseek_refits_held_out"
"""``obsm``: cells held out from each refit."""

THETA_SMOOTHED = "indiseek_theta_smoothed"
"""``obs``: mean of :data:`THETA` over neighbouring cells in the joint representation."""

THETAS = (THETA, THETA_SMOOTHED)
"""``obs``: theta of single cells, and its mean over neighbouring cells."""

RESULTS = (
    *(f"{IMPORTANCE}{latent}" for latent in ("", "_shared", "_both", "_raw")),
    *(RANK_CORRELATION, RETRIEVAL, CLUSTERS, WNN, DIMENSIONS, f"{DIMENSIONS}_shared"),
)
"""``uns``: results computed from representations, whose inputs are stored as fingerprints."""

SYNTHETIC = "synthetic"
"""``uns``: ground truth of a synthetic data set, by factor and dimension."""

FACTOR_SHARED = "factor_shared"
"""``obsm``: the true shared factors of a synthetic data set."""

FACTOR_SHARED_SQUARED = "factor_shared_squared"
"""``obsm``: standardised squares of the shared factors, which do not depend on their sign."""


def factor_private(modality: str) -> str:
    """Return the ``obsm`` key of the true factors specific to ``modality`` (synthetic data)."""
    return f"factor_private_{modality}"


def oracle_shared(modality: str) -> str:
    """Return the ``obsm`` key of the supplied shared representation (synthetic data)."""
    return f"oracle_shared_{modality}"


def has(modality: str) -> str:
    """Return the ``obs`` key that marks cells with ``modality`` (the user's name for it)."""
    return f"indiseek_has_{modality}"


def shared(modality: str) -> str:
    """Return the ``obsm`` key of the shared representation of ``modality``."""
    return f"X_indiseek_shared_{modality}"


def specific(modality: str) -> str:
    """Return the ``obsm`` key of the specific representation of ``modality``."""
    return f"X_indiseek_specific_{modality}"


def refits(modality: str) -> str:
    """Return the ``obsm`` key of the concatenated representations of ``modality`` in all refits."""
    return f"X_indiseek_refits_{modality}"


def loadings(kind: str) -> str:
    """Return the ``varm`` key of the loadings of features on a ``kind`` of representation."""
    return f"indiseek_{kind}"


def wnn_weight(modality: str) -> str:
    """Return the ``obs`` key of the WNN weight of ``modality``."""
    return f"{modality}:wnn_weight"


def graph(key: str, matrix: str) -> str:
    """Return the ``obsp`` key of a matrix of the graph ``key``, such as ``"connectivities"``."""
    return f"{key}_{matrix}"


def graph_points(key: str) -> str:
    """Return the ``obsm`` key of the concatenated embeddings from which a graph was computed."""
    return f"X_{key}"


def transferred(label_key: str) -> str:
    """Return the ``obs`` key of labels transferred from a reference."""
    return f"indiseek_{label_key}"


def transferred_confidence(label_key: str) -> str:
    """Return the ``obs`` key of the share of votes for the label of :func:`transferred`."""
    return f"indiseek_{label_key}_confidence"


def with_latent_suffix(key: str, latent: str) -> str:
    """Return a key with the name of the representation as suffix; the specific one has none."""
    return key if latent == "specific" else f"{key}_{latent}"


def clusters(latent: str) -> str:
    """Return the ``obs`` key of clusters of ``"joint"``, ``"shared_<modality>"`` or another one."""
    return f"{CLUSTERS}_{latent}"


def other(role: Role) -> Role:
    """Return the other role."""
    return "adt" if role == "rna" else "rna"


REGRESSION_TITLES = {
    "flow": "Normalizing flow",
    "critics": "Critics alone",
    "decoder": "Decoder",
    "prediction": "Prediction of the other modality",
    "prediction_again": "Prediction, validation cells too",
}
"""Titles of the stages that train no representation, for progress bars and figures."""
