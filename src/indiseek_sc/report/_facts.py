"""What was done and found: what a report is made from, and the facts of a run that it and the command line tell."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._fingerprint import CELLS, Place, take_fingerprint
from indiseek_sc._lookup import find_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport, PredictionReport


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a trained model, which ``model.report`` gathers: a report does not know the class of models.

    Parameters
    ----------
    method
        Name of its class.
    preset
        Where settings came from that were not given.
    settings
        All settings, by name.
    preprocessing
        By the user's name of a modality, the steps from its values to the features that the model reads.
    history
        Curves of the training, by ``"stage/quantity"``.
    batch_key
        Column of batches that the model was given, if it was.
    batches
        Their names.
    covariates
        Columns of further covariates.
    lambda_path
        The walk by which lambda was chosen, if it was.
    cautions
        What the model itself has to say against its representations.
    predictions
        What ``model.audit_prediction`` found, by source and target; nothing if the model has not learnt to predict.
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


@dataclass(frozen=True)
class Material:
    """The data with representations and tables, and the model where there is one.

    Parameters
    ----------
    mdata
        With representations; tables and embeddings as far as they were made.
    source
        What the cells are, in words.
    label_key
        Column of labels, if there is one.
    model
        The trained model, if it is at hand.
    facts
        Of the model.
    audit
        What ``model.audit()`` found.
    failures
        Why a table could not be computed, by its key in ``uns``.
    seed
        Seed of what the report itself computes.
    mixing
        By label, how far neighbours in the joint representation share their batch, of :func:`indiseek_sc.metrics.batch_mixing`; nothing without
        batches or labels.
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
        """What the model noted when it wrote its representations."""
        return self.mdata.uns[_keys.SETTINGS]

    @property
    def modalities(self) -> dict[_keys.Role, str]:
        """The user's own name of the modality in each role."""
        return {role: str(self.noted["modalities"][role]) for role in _keys.ROLES}

    @property
    def history(self) -> Mapping[str, pd.DataFrame]:
        """Curves of the training; nothing without the model."""
        if self.facts is not None:
            return self.facts.history
        return {} if self.model is None else self.model.history

    @property
    def has_refits(self) -> bool:
        """Whether theta and information were computed from refits."""
        return "information_difference" in self.mdata.uns.get(_keys.IMPORTANCE, ())

    @property
    def colors(self) -> Sequence[str]:
        """Columns to colour maps of cells by: labels, theta and batches, as far as there are any."""
        # Of a single cell theta is mostly noise.
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
"""Those that can change the result, or what the file looks like."""


def collect_facts(material: Material) -> dict[str, Any]:
    """Facts of data, representations, settings and versions, as the report and the command line's summary tell them.

    Parameters
    ----------
    material
        What they are gathered from.

    Returns
    -------
    By name; None for what is not known.
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
        "predictions": {} if facts is None else dict(facts.predictions),
        "epochs": _count_epochs(material.history) or None,
        "versions": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **{name: version(name) for name in PACKAGES},
        },
        "version": str(noted.get("version", "")) or None,
        "made_by_scanpy": {key: key in mdata.uns for key in ("neighbors", "leiden", "umap")},
        "params": {key: mdata.uns.get(f"{key}_params") for key in (_keys.IMPORTANCE, _keys.CLUSTERS)},
        "made_of": _take_fingerprints(material),
        "weights": _find_weights(mdata.uns.get(_keys.RANK_CORRELATION)),
    }


def _take_fingerprints(material: Material) -> dict[str, str]:
    """Short texts by which it can be told later whether representations, labels and cells are those of the report."""
    latents = [
        _keys.JOINT,
        *(key(name) for key in (_keys.shared, _keys.specific) for name in material.modalities.values()),
    ]
    places = [CELLS, *(Place("obsm", key) for key in latents)]
    places += [] if material.label_key is None else [Place("obs", material.label_key)]
    return {str(place): take_fingerprint(material.mdata, place) for place in places}


def _count_epochs(history: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Epochs that each stage ran."""
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
"""Ends of the names of the curves to draw: alignment of the shared representations, independence (as critics and the probe have it) and completeness of the others."""


def course_of_training(history: Mapping[str, pd.DataFrame]) -> list[str]:
    """Keys of the curves that tell how training went; all of them would fill pages."""
    return [key for key in history if key.endswith(CURVES)]
