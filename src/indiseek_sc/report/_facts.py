"""Input of a report, and the facts of a run that the report and the command line state."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
from session_info2 import session_info

from indiseek_sc import _keys
from indiseek_sc._fingerprint import CELLS, Place, take_fingerprint
from indiseek_sc._lookup import find_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport, PredictionReport


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a trained model, collected by ``model.report``.

    They are passed as plain values, so that the report does not depend on the class of the model.

    Parameters
    ----------
    method
        Name of the class of the model.
    preset
        Name of the preset that supplied the settings that were not given.
    settings
        All settings, by name.
    preprocessing
        Preprocessing steps from the values of a modality to the features that the model reads, by
        the user's name of the modality.
    history
        Training curves, by ``"stage/quantity"``.
    batch_key
        Column of batches that the model uses, or None.
    batches
        Names of the batches.
    covariates
        Columns of further covariates.
    lambda_path
        Trade-off curve along which lambda was chosen, or None.
    cautions
        Cautions that the model raises about its own representations.
    predictions
        Results of ``model.audit_prediction``, by source and target; empty if no prediction was
        trained.
    changed
        Settings that differ from the preset, by name.
    """

    method: str
    preset: str
    settings: Mapping[str, Any]
    preprocessing: Mapping[str, str]
    history: Mapping[str, pd.DataFrame]
    batch_key: str | None
    batches: Sequence[str]
    covariates: Sequence[str]
    lambda_path: Any
    cautions: Sequence[str]
    predictions: Mapping[tuple[str, str], PredictionReport]
    changed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """Input of a report: data with representations and tables, and optionally the model.

    Parameters
    ----------
    mdata
        Data with representations, and with the tables and embeddings that were computed.
    source
        Description of the cells, for the title.
    label_key
        Column of labels, or None.
    model
        The trained model, or None.
    facts
        Facts about the model, or None.
    audit
        Result of ``model.audit()``, or None.
    failures
        Reasons why tables could not be computed, by their key in ``uns``.
    seed
        Random seed of all computations of the report.
    mixing
        For each label, how often neighbours in the joint representation share their batch, see
        :func:`indiseek_sc.metrics.batch_mixing`; None without batches or labels.
    """

    mdata: MuData
    source: str
    label_key: str | None = None
    model: Any = None
    facts: ModelFacts | None = None
    audit: AuditReport | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    mixing: pd.DataFrame | None = None

    @property
    def noted(self) -> Mapping[str, Any]:
        """Settings that the model recorded with its representations."""
        return self.mdata.uns[_keys.SETTINGS]

    @property
    def modalities(self) -> dict[_keys.Role, str]:
        """The user's own name of the modality in each role."""
        return {role: str(self.noted["modalities"][role]) for role in _keys.ROLES}

    @property
    def history(self) -> Mapping[str, pd.DataFrame]:
        """Training curves; empty without the model."""
        if self.facts is not None:
            return self.facts.history
        return {} if self.model is None else self.model.history

    @property
    def has_refits(self) -> bool:
        """Whether theta and information were computed from refits."""
        return "information_difference" in self.mdata.uns.get(_keys.IMPORTANCE, ())

    @property
    def colors(self) -> Sequence[str]:
        """Available columns by which UMAPs are coloured: labels, theta and batches."""
        # Smoothed theta is preferred, because theta of a single cell is mostly noise.
        theta = next((key for key in reversed(_keys.THETAS) if key in self.mdata.obs), None)
        batch = self.facts.batch_key if self.facts is not None else None
        return list(dict.fromkeys(key for key in (self.label_key, theta, batch) if key is not None))


PARTS = ("train", "validation", "test")

PACKAGES = (
    *(
        "indiseek_sc",
        "anndata",
        "lightning",
        "matplotlib",
        "mudata",
        "numpy",
        "pandas",
        "scanpy",
        "scikit-learn",
        "scipy",
    ),
    *("scvi-tools", "torch", "umap-learn"),
)
"""Packages whose versions can change the results or the appearance of the report."""


def collect_facts(material: Material) -> dict[str, Any]:
    """Collect facts about data, representations, settings and versions.

    They are stated in the report and in the summary of the command line.

    Parameters
    ----------
    material
        Input of the report.

    Returns
    -------
    Facts by name; None where a fact is unknown.
    """
    mdata, facts, noted = material.mdata, material.facts, material.noted
    modalities = material.modalities
    settings = dict(noted.get("settings", {})) if facts is None else dict(facts.settings)
    return {
        "source": material.source,
        "n_cells": mdata.n_obs,
        "modalities": modalities,
        "n_features": {role: mdata[name].n_vars for role, name in modalities.items()},
        "split": _count_split(material),
        "preprocessing": None if facts is None else dict(facts.preprocessing),
        "batch_key": None if facts is None else facts.batch_key,
        "batches": None if facts is None else list(facts.batches),
        "covariates": None if facts is None else list(facts.covariates),
        "n_dimensions": {
            "shared": mdata.obsm[_keys.shared(modalities["rna"])].shape[1],
            "specific": {name: mdata.obsm[_keys.specific(name)].shape[1] for name in modalities.values()},
            "joint": mdata.obsm[_keys.JOINT].shape[1],
        },
        "labels": _describe_labels(material),
        "method": "IndiSeek" if facts is None else facts.method,
        "preset": None if facts is None else facts.preset,
        "lambda": settings.get("lambda"),
        "lambda_reason": None if facts is None or facts.lambda_path is None else facts.lambda_path.reason,
        "seed": settings.get("seed"),
        "settings": {name: settings[name] for name in sorted(settings)},
        "changed": {} if facts is None else dict(facts.changed),
        "predictions": {} if facts is None else dict(facts.predictions),
        "epochs": _count_epochs(material.history) or None,
        "versions": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **{name: version(name) for name in PACKAGES},
        },
        "session": _describe_session(),
        "version": str(noted.get("version", "")) or None,
        "made_by_scanpy": {key: key in mdata.uns for key in ("neighbors", "leiden", "umap")},
        "params": {key: mdata.uns.get(f"{key}_params") for key in (_keys.IMPORTANCE, _keys.CLUSTERS)},
        "made_of": _take_fingerprints(material),
        "weights": _find_weights(mdata.uns.get(_keys.RANK_CORRELATION)),
    }


def _describe_session() -> dict[str, str]:
    """Return the hardware and the versions of all loaded packages."""
    try:
        session = session_info(cpu=True, gpu=True, dependencies=True)
    except OSError:  # a program that describes GPUs exists but cannot be executed
        session = session_info(cpu=True, dependencies=True)
    found = json.loads(session.format("json"))
    loaded = [row for part in ("packages", "dependencies") for row in found.get(part, ())]
    versions = {row["package"]: row["version"] for row in sorted(loaded, key=lambda row: row["package"].lower())}
    return {name: found["info"][name] for name in ("CPU", "GPU") if name in found["info"]} | versions


def _take_fingerprints(material: Material) -> dict[str, str]:
    """Return fingerprints of the representations, labels and cells that the report describes."""
    latents = [
        _keys.JOINT,
        *(key(name) for key in (_keys.shared, _keys.specific) for name in material.modalities.values()),
    ]
    places = [CELLS, *(Place("obsm", key) for key in latents)]
    places += [] if material.label_key is None else [Place("obs", material.label_key)]
    return {str(place): take_fingerprint(material.mdata, place) for place in places}


def _count_epochs(history: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Return the number of epochs of each training stage."""
    counts: dict[str, int] = {}
    for key, values in history.items():
        stage = key.partition("/")[0]
        counts[stage] = max(counts.get(stage, 0), int(values.index.max()) + 1)
    return counts


def _count_split(material: Material) -> dict[str, int] | None:
    if _keys.SPLIT not in material.mdata.obs:
        return None
    counts = material.mdata.obs[_keys.SPLIT].astype(str).value_counts()
    return {part: int(counts.get(part, 0)) for part in PARTS}


def _describe_labels(material: Material) -> dict[str, Any] | None:
    if material.label_key is None:
        return None
    labels = find_labels(material.mdata, material.label_key, "label_key")
    return {"key": material.label_key, "n": int(labels.nunique()), "n_missing": int(labels.isna().sum())}


def _find_weights(table: pd.DataFrame | None) -> str | None:
    return None if table is None or "weights" not in table else str(table["weights"].iloc[0])


CURVES = ("info_nce", "correlation", "bound", "leak", "error")
"""Suffixes of the curves that are drawn: alignment of the shared representations, independence
(measured by critics and a probe) and completeness of the specific representations."""


def select_training_curves(history: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the keys of the most informative training curves.

    Parameters
    ----------
    history
        Training curves, by ``"stage/quantity"``.
    """
    return [key for key in history if key.endswith(CURVES)]
