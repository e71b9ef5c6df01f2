from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.cli._summary import format_summary, write_json
from indiseek_sc.metrics import AuditReport


def test_json_has_no_nan_and_no_numpy(tmp_path):
    summary = {
        "a": [np.float32(1.5), float("nan"), np.nan, np.inf, -np.inf],
        "b": {1: (np.int64(3), np.bool_(True))},
        "c": None,
        "d": "müde",
    }
    write_json(summary, tmp_path / "x.json")
    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": [1.5, None, None, None, None], "b": {"1": [3, True]}, "c": None, "d": "müde"}


SUMMARY = {
    "source": "cells",
    "n_cells": {"train": 700, "validation": 100, "test": 200},
    "n_dimensions": {"shared": 5, "specific": {"gex": 6, "prot": 7}},
    "modalities": {"rna": "gex", "adt": "prot"},
    "labels_are_clusters": False,
    "label_key": "type",
    "versions": {"indiseek_sc": "0"},
    "seed": 0,
    "about_dimensions": ["None of the 6 dimensions of the gex-specific representation follows technical covariates."],
}
CAPTIONS = dict.fromkeys(["umap.png", "importance.png", "audit.png", "hitext.png"], "caption")


@pytest.fixture
def table() -> pd.DataFrame:
    theta = {"B": 2.0, "T": 1.0, "NK": 0.1, "DC": -1.0, "Mono": -2.0, "rare": -3.0}
    return pd.DataFrame(
        {
            "label": list(theta),
            "theta": list(theta.values()),
            "lower": [value - 0.5 for value in theta.values()],
            "upper": [value + 0.5 for value in theta.values()],
            "reliable": [label != "rare" for label in theta],
            "information_difference": list(theta.values()),
            "claim": ["rna", "rna", "neither", "adt", "adt", "not assessed"],
        }
    )


@pytest.fixture
def audit() -> AuditReport:
    figures = pd.DataFrame({"leak_ratio": [0.0123, np.nan], "gain": [0.987, -0.01]}, index=["gex", "prot"])
    figures["agreement"] = 0.5
    return AuditReport(figures, {"foscttm": 0.012, "recall@10": 0.62}, 800, 200, 200)


def test_summary_names_significant_types_in_order(table, audit):
    text = format_summary(SUMMARY, table, audit, CAPTIONS)
    assert "**`gex` resolves better:** B, T.\n" in text
    assert "**`prot` resolves better:** Mono, DC.\n" in text
    assert "Resolved by neither modality beyond the shared representations: 1 of 6." in text
    assert "No claims are made" in format_summary(
        SUMMARY, table.drop(columns="information_difference"), audit, CAPTIONS
    )
    assert "Of 1,000 cells, 700 were used for training" in text
    assert "## What the dimensions mean\n\n- None of the 6 dimensions of the gex" in text
    assert "What the dimensions mean" not in format_summary({**SUMMARY, "about_dimensions": []}, table, audit, CAPTIONS)


def test_summary_counts_further_types(table, audit):
    table["label"], table["claim"] = list("abcdef"), "rna"
    text = format_summary(SUMMARY, table, audit, CAPTIONS)
    assert "**`gex` resolves better:** a, b, c, d, e and 1 more." in text
    assert "**`prot` resolves better:** none significantly." in text


def test_summary_describes_the_audit_without_nan(table, audit):
    text, _, _ = format_summary(SUMMARY, table, audit, CAPTIONS).partition("```")
    assert (
        "explains 1.2 % of the variance of the shared representation of `prot` that all features of `gex` explain"
        in text
    )
    assert "it adds 99 % of what could be added" in text
    assert "the modalities share too little" in text
    assert "it adds 0 % of what could be added" in text
    assert "for 62 % of cells" in text and "(by chance 5 %); on average, 1.2 % of the cells" in text
    assert "nan" not in text


def test_summary_states_that_labels_are_clusters(table, audit):
    assert "no cell types were given" in format_summary(
        {**SUMMARY, "labels_are_clusters": True}, table, audit, CAPTIONS
    )
