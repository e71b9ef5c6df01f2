from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.cli._summary import tell_story, write_json
from indiseek_sc.metrics import AuditReport


def test_json_has_no_nan_and_no_numpy(tmp_path):
    summary = {
        "a": [np.float32(1.5), float("nan"), np.nan, np.inf, -np.inf],
        "b": {1: (np.int64(3), np.bool_(True))},
        "c": None,
        "d": "müde",
    }
    write_json(summary, tmp_path / "x.json")
    told = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert told == {"a": [1.5, None, None, None, None], "b": {"1": [3, True]}, "c": None, "d": "müde"}


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
CAPTIONS = dict.fromkeys(["umap.png", "importance.png", "audit.png", "history.png"], "caption")


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


def test_the_story_names_types_that_are_sure_the_clearest_first(table, audit):
    story = tell_story(SUMMARY, table, audit, CAPTIONS)
    assert "**`gex` resolves better:** B, T.\n" in story
    assert "**`prot` resolves better:** Mono, DC.\n" in story
    assert "Resolved by neither modality beyond what is shared: 1 of 6." in story
    assert "not claimed" in tell_story(SUMMARY, table.drop(columns="information_difference"), audit, CAPTIONS)
    assert "Of 1,000 cells, 700 were for training" in story
    assert "## What the dimensions mean\n\n- None of the 6 dimensions of the gex" in story
    assert "What the dimensions mean" not in tell_story({**SUMMARY, "about_dimensions": []}, table, audit, CAPTIONS)


def test_the_story_counts_those_it_does_not_name(table, audit):
    table["label"], table["claim"] = list("abcdef"), "rna"
    story = tell_story(SUMMARY, table, audit, CAPTIONS)
    assert "**`gex` resolves better:** a, b, c, d, e and 1 more." in story
    assert "**`prot` resolves better:** none for sure." in story


def test_the_story_tells_the_audit_without_nan(table, audit):
    story, _, _ = tell_story(SUMMARY, table, audit, CAPTIONS).partition("```")
    assert "explains 1.2 % of what all features of `gex` explain of the shared representation of `prot`" in story
    assert "it holds 99 % of all" in story
    assert "too little is shared here" in story
    assert "it holds 0 % of all" in story
    assert "in 62 % of cells (by chance 5 %); 1.2 % of cells" in story
    assert "nan" not in story


def test_the_story_says_when_types_are_clusters(table, audit):
    assert "no cell types were given" in tell_story({**SUMMARY, "labels_are_clusters": True}, table, audit, CAPTIONS)
