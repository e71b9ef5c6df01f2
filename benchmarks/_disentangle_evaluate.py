"""Evaluate a run: audit, retrieval, known factors, and agreement of theta with WNN weights."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from synthetic_recovery import read_factors

from indiseek_sc._keys import ROLES
from indiseek_sc.metrics import FEWEST_LABELS, foscttm, modality_importance, rank_correlation, recall_at_k, wnn_weights
from indiseek_sc.report import COMPONENTS
from indiseek_sc.tl import find_wnn_weights

if TYPE_CHECKING:
    from pathlib import Path

    from _disentangle_families import Case
    from mudata import MuData

    from indiseek_sc import IndiSeek

    Latents = dict[str, dict[str, np.ndarray]]

FIGURES = ("agreement_flat", "sufficiency", "leak_ratio", "leak_p", "gain", "complete")
MOST_FOR_RETRIEVAL = 4_000
LATENTS = ("raw", "shared", "specific", "both", "decoded")
IMPORTANCE_METHODS = ("jacobian", "probe")
FEATURE_GROUPS = ("shared", "private", "both", "none")
N_BOOTSTRAP = 500


def latents_of(model: IndiSeek) -> Latents:
    """Return representations by kind and role; ``both`` concatenates shared and specific ones."""
    names = model.modalities
    latents = {
        "raw": {role: model.get_features(modality=names[role]) for role in ROLES},
        "decoded": {role: model.get_reconstruction(modality=names[role]) for role in ROLES},
    }
    for kind in ("shared", "specific"):
        latents[kind] = {role: model.get_latent_representation(kind=kind, modality=names[role]) for role in ROLES}  # type: ignore[arg-type]
    latents["both"] = {role: np.hstack([latents["shared"][role], latents["specific"][role]]) for role in ROLES}
    return latents


def evaluate(case: Case, method: str, model: IndiSeek, latents: Latents, auditor: Path | None) -> dict[str, float]:
    """Audit on held-out cells, optionally by another ``audit``, and score partner retrieval."""
    train, test = case.train, case.test
    if auditor is None:
        table = case.audit(method, model).table
        figures = {f"{role}.{k}": v for role in ROLES for k, v in table.loc[model.modalities[role]].items()}
    else:
        specific, decoded = dict(latents["specific"]), dict(latents["decoded"])
        for role in (role for role in ROLES if specific[role].shape[1] == 0):
            specific[role] = decoded[role] = np.zeros((len(specific[role]), 1))  # as model.audit() does
        figures = load_auditor(auditor).audit(
            x=latents["raw"], shared=latents["shared"], specific=specific, decoded=decoded, train=train, test=test
        )
    shared = [latents["shared"][role][test[:MOST_FOR_RETRIEVAL]] for role in ROLES]
    widths = {f"n_{kind}": latents[kind]["rna"].shape[1] for kind in ("shared", "specific")}
    wanted = {f"{role}.{figure}": figures.get(f"{role}.{figure}", np.nan) for role in ROLES for figure in FIGURES}
    return widths | wanted | {"foscttm": foscttm(*shared), "recall@10": recall_at_k(*shared, k=10)}


def load_auditor(file: Path) -> Any:
    """Import a module from a file."""
    spec = importlib.util.spec_from_file_location("auditor", file)
    auditor = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(auditor)  # type: ignore[union-attr]
    return auditor


def evaluate_factors(
    model: IndiSeek, mdata: MuData, train: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, float]:
    """Return the R2 of private and shared factors and squares from each specific representation."""
    table = read_factors(model, mdata, train, test, seed, from_features=False)
    figures = {}
    for role in ROLES:
        latent = table[table["latent"] == f"specific_{role}"]
        private = latent.loc[latent["should"] == "should", "r2"]
        shared = latent.loc[latent["kind"].isin(["shared", "shared_squared"]), "r2"]
        figures |= {f"{role}.private_r2_min": private.min(), f"{role}.private_r2_mean": private.mean()}
        figures |= {f"{role}.shared_r2_max": shared.max(), f"{role}.shared_r2_mean": shared.mean()}
    return figures


def evaluate_features(model: IndiSeek, mdata: MuData, seed: int) -> dict[str, float]:
    """Return features that specific representations use and contain (paper, figures 1 and 2).

    For features made of shared factors alone, of private ones alone, of both, and of none: the
    share of the mean squared Jacobian (use), and the mean R2 of probes (content). Empty
    representations have no values.
    """
    groups = mdata.uns["synthetic"]["coordinates"].set_index("coordinate")["group"]
    figures = {}
    for role in ROLES:
        if model.get_latent_representation(kind="specific", modality=model.modalities[role]).shape[1] == 0:
            continue
        for method in IMPORTANCE_METHODS:
            table = model.feature_importance(modality=model.modalities[role], method=method, seed=seed)
            importance = table["importance"].groupby(groups[table["feature"]].to_numpy())
            values = importance.mean() if method == "probe" else importance.sum() / table["importance"].sum()
            figures |= {f"{role}.{method}_{group}": value for group, value in values.items()}
    return figures


def get_wnn_weights(
    mdata: MuData, modalities: dict[str, str], features: dict[str, np.ndarray]
) -> tuple[np.ndarray, str]:
    """Return WNN weights of RNA in the data, or of principal components, and their source."""
    try:
        weights, source = find_wnn_weights(mdata, modalities=modalities)
    except KeyError:
        components = [
            PCA(min(most, *features[role].shape), svd_solver="full").fit_transform(features[role])
            for role, most in COMPONENTS.items()
        ]
        widths = ", ".join(str(x.shape[1]) for x in components)
        return wnn_weights(*components), f"indiseek_sc.metrics.wnn_weights of principal components ({widths})"
    return weights.to_numpy(), source


def evaluate_ranks(
    latents: Latents,
    modalities: dict[str, str],
    mdata: MuData,
    labels: np.ndarray | None,
    test: np.ndarray,
    seed: int,
) -> dict[str, float | str]:
    """Return rank correlations of theta with WNN weights, by kind of representation.

    Empty without labels; kinds without enough reliable labels are omitted.
    """
    if labels is None:
        return {}
    weights, source = get_wnn_weights(mdata, modalities, latents["raw"])
    figures: dict[str, float | str] = {"wnn_source": source}
    for kind in LATENTS:
        rna, adt = (latents[kind][role][test] for role in ROLES)
        if rna.shape[1] == 0 or adt.shape[1] == 0:
            continue
        importance = modality_importance(rna, adt, labels[test], n_bootstrap=1, seed=seed)
        if importance.table["reliable"].sum() < FEWEST_LABELS:
            continue
        ranks = rank_correlation(
            importance.theta,
            weights[test],
            labels[test],
            n_bootstrap=N_BOOTSTRAP,
            statistics=("spearman",),
            seed=seed,
        )
        (spearman,) = ranks.table.to_dict("records")
        figures |= {f"rho.{kind}": spearman["estimate"]}
        figures |= {f"rho.{kind}_{end}": spearman[end] for end in ("lower", "upper")}
    return figures
