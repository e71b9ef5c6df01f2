"""Figures of a report, with captions, or the reason why a figure cannot be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import pyplot as plt

from indiseek_sc import _keys, pl
from indiseek_sc.report._facts import select_training_curves
from indiseek_sc.report._images import Image, figure_of, render_figure
from indiseek_sc.report._tables import as_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from indiseek_sc.report._facts import Material

Section = Literal["latents", "importance", "dimensions", "independence", "prediction", "clusters", "training"]

FEATURES_PER_DIMENSION = 3
ATTRIBUTION_CELLS = 200
MODEL_REQUIRED = "This needs the model: call model.report(path), or give the folder of a saved model to indiseek-sc report by --model."

PREDICTION_REQUIRED = (
    "The model was not trained to predict one modality from the other. Call model.train_prediction() before the report, "
    "or run indiseek-sc fit with --predict; this takes about a minute."
)

UMAP_REQUIRED = (
    "The data contain no UMAP of a representation. Compute one of the joint representation with "
    "sc.pp.neighbors(mdata, use_rep='X_indiseek') and sc.tl.umap(mdata); indiseek-sc fit computes one of each "
    "representation."
)

UMAP_CAPTIONS = {
    "labels": "Each point is a cell. Groups in a shared representation are supported by both modalities. Most specific "
    "representations show no groups: their modality alone separates few cell types beyond the shared "
    "representation. A label is written where most of the neighbouring cells carry it. Distances between groups "
    "cannot be interpreted.",
    "theta": "Orange: the nearest neighbours of the cell carry its label more often in the RNA-specific than in the "
    "protein-specific representation; blue: the reverse.",
    "batch": "Each point is a cell. If batches are separated, the representation contains biological or technical "
    "differences between them.",
}
"""Captions of UMAPs, by the type of the colouring."""


@dataclass(frozen=True)
class Picture:
    """A figure to be drawn, or the reason why it cannot be drawn.

    Parameters
    ----------
    name
        Anchor in the page and name of the file.
    section
        Section of the page.
    title
        Title.
    reading
        Caption that explains how to read the figure.
    draw
        Function that draws the figure and returns its axes.
    missing
        What is missing and how to compute it; empty if the figure can be drawn.
    tables
        Names of the tables that the figure shows.
    """

    name: str
    section: Section
    title: str
    reading: str
    draw: Callable[[], Any]
    missing: str = ""
    tables: Sequence[str] = ()


def list_pictures(material: Material) -> list[Picture]:
    """Return all figures of a report, in the order of the page."""
    return [
        *_umap_pictures(material),
        *_importance_pictures(material),
        *_dimension_pictures(material),
        *_independence_pictures(material),
        *_prediction_pictures(material),
        *_cluster_pictures(material),
        *_training_pictures(material),
    ]


def _umap_pictures(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    keys = {"joint": "X_umap"}
    for kind, key_of in (("shared", _keys.shared), ("specific", _keys.specific)):
        keys |= {f"{kind} {name}": f"{key_of(name)}_umap" for name in material.modalities.values()}
    without = [latent for latent, key in keys.items() if key not in mdata.obsm]
    missing = "" if len(without) < len(keys) else UMAP_REQUIRED
    lacking = f" Representations without a UMAP in the data are not shown: {', '.join(without)}." if without else ""
    batch = None if material.facts is None else material.facts.batch_key
    for number, color in enumerate(material.colors or [None]):
        coloring = (
            "coloured by theta"
            if color in _keys.THETAS
            else f"coloured by {color}"
            if color
            else "of the representations"
        )
        reading = UMAP_CAPTIONS["theta" if color in _keys.THETAS else "batch" if color and color == batch else "labels"]
        yield Picture(
            f"umap-{number}",
            "latents",
            f"UMAPs {coloring}",
            reading + lacking,
            lambda color=color: pl.umap(mdata, color, show=False),  # type: ignore[misc]
            missing,
        )


def _importance_pictures(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    over = "cells, training cells and seeds" if material.has_refits else "cells only"
    if material.has_refits:
        yield Picture(
            "information",
            "importance",
            "Information of each modality about each label",
            "Each row is a label. Dots show the information about the label that each specific representation adds to the "
            f"shared ones, in cells that were not used for training, with intervals over {over}. A coloured label is "
            "resolved better by the modality of this colour; for a grey label no difference was established.",
            lambda: pl.importance_ranking(mdata, score="information", show=False),
            tables=("theta",),
        )
    yield Picture(
        "theta",
        "importance",
        "Theta of each label",
        "Each row is a label. Right of 0, cells of the label have purer neighbourhoods in the RNA-specific representation; "
        f"left of 0, in the protein-specific one. Lines are intervals over {over}; grey intervals include 0, and hollow "
        "dots mark labels with too few cells.",
        lambda: pl.importance_ranking(mdata, score="theta", show=False),
        _lacking(
            material,
            _keys.IMPORTANCE,
            "No labels were given. Name their column with label_key, or with --label-key on the command line.",
        ),
        tables=("theta",),
    )
    yield Picture(
        "rank-correlation",
        "importance",
        "Theta compared with weights of weighted nearest neighbours (WNN)",
        "Each point is a label, with its mean theta and its mean WNN weight of RNA. A high correlation is no evidence of good "
        "representations: WNN uses the shared information as well, so a specific representation that leaks may agree "
        "with it better.",
        lambda: pl.rank_correlation(mdata, of="means", show=False),
        _lacking(
            material,
            _keys.RANK_CORRELATION,
            "Theta was not compared with WNN weights. Call tl.wnn_weights(mdata) and tl.rank_correlation(mdata, label_key), or "
            "create the report with compare=True.",
        ),
        tables=("rank-correlation", "rank-correlation-labels"),
    )


def _dimension_pictures(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    for role, name in material.modalities.items():
        yield Picture(
            f"dimensions-{role}",
            "dimensions",
            f"Covariates, labels and features of the {name}-specific dimensions",
            "Each row is a dimension. Grey: the share of its variance explained by technical covariates, beyond the labels if "
            "labels are given. Purple: labels whose cells have more extreme values of the dimension than all cells "
            "together; green: less extreme values. Right: the features at the low and the high end of the dimension.",
            lambda name=name: pl.dimensions(mdata, name, show=False),  # type: ignore[misc]
            _lacking(material, _keys.DIMENSIONS, "Call tl.describe_dimensions(mdata, label_key)."),
            tables=("dimensions", "dimensions-covariates", "dimensions-labels"),
        )
    for role, name in material.modalities.items():
        yield Picture(
            f"attribution-{role}",
            "dimensions",
            f"Features of the {name}-specific dimensions",
            f"Each column is a dimension, with the {FEATURES_PER_DIMENSION} features that change most along it. Purple features "
            "increase along the dimension, green features decrease. The sign of a dimension is arbitrary.",
            lambda name=name: pl.attribution(  # type: ignore[misc]
                material.model.feature_attribution(
                    modality=name, kind="specific", max_cells=ATTRIBUTION_CELLS, seed=material.seed
                ),
                n_top=FEATURES_PER_DIMENSION,
                show=False,
            ),
            "" if material.model is not None else MODEL_REQUIRED,
        )


def _independence_pictures(material: Material) -> Iterator[Picture]:
    yield Picture(
        "audit",
        "independence",
        "Main audit results and their aims",
        "Results of independently trained probes on cells that were not used for training. A bar should extend beyond the "
        "mark of its aim; the bar of the leak ratio, which has its own axis, should end before it.",
        lambda: pl.audit(material.audit, show=False),
        "" if material.audit is not None else MODEL_REQUIRED,
        tables=("audit",),
    )
    yield Picture(
        "retrieval",
        "independence",
        "Matching of cells across modalities",
        "The share of cells whose own representation is among the k nearest shared representations of the other modality, "
        "in each direction; the dashed line is the share expected by chance. A higher curve means that the shared "
        "representations identify single cells better.",
        lambda: pl.retrieval(material.mdata, show=False),
        _lacking(material, _keys.RETRIEVAL, "Call tl.retrieval(mdata)."),
        tables=("retrieval",),
    )


def _prediction_pictures(material: Material) -> Iterator[Picture]:
    facts = material.facts
    reading = (
        "Each panel is a feature, from the best predicted to the worst. Darker bins contain more cells; on the line, predicted "
        "and measured values are equal. The correlation and the share of cells within their prediction interval are "
        "written above each panel."
    )
    if facts is None or not facts.predictions:
        missing = MODEL_REQUIRED if facts is None else PREDICTION_REQUIRED
        yield Picture("prediction-0", "prediction", "Predicted and measured values", reading, lambda: None, missing)
        return
    roles = {name: role for role, name in material.modalities.items()}
    for number, ((source, target), report) in enumerate(facts.predictions.items()):
        yield Picture(
            f"prediction-{number}",
            "prediction",
            f"{target} predicted from {source}, compared with measured values",
            reading,
            lambda report=report, role=roles[target]: pl.prediction(report, role=role, show=False),  # type: ignore[misc]
            tables=(as_file_name(f"prediction-{target}-from-{source}"),),
        )


def _cluster_pictures(material: Material) -> Iterator[Picture]:
    missing = _lacking(
        material,
        _keys.CLUSTERS,
        "Clusters of the representations were not compared. Call tl.compare_clusters(mdata, label_key), or create the "
        "report with compare=True; this takes minutes.",
    )
    yield Picture(
        "cluster-agreement",
        "clusters",
        "Agreement between clusters of the representations",
        "Adjusted Rand index of each pair of representations, at matched numbers of clusters; 1 means identical clusters and "
        "0 is expected by chance. The diagonal compares clusterings of the same representation with different random "
        "seeds: a low value means that the representation has no stable clusters.",
        lambda: pl.cluster_agreement(material.mdata, show=False),
        missing,
        tables=("cluster-agreement", "cluster-resolutions"),
    )
    yield Picture(
        "cluster-splits",
        "clusters",
        "Clusters that are split in other representations",
        "Each row is a cluster of the reference, each column another representation. Coloured tiles mark clusters that are "
        "split, with the effective number of parts; a frame marks clusters that are split in one representation only. "
        "Hatched tiles mark splits that are not reproduced with another random seed.",
        lambda: pl.cluster_splits(material.mdata, show=False),
        missing,
        tables=("cluster-splits",),
    )


def _training_pictures(material: Material) -> Iterator[Picture]:
    history = material.history
    yield Picture(
        "history",
        "training",
        "Training curves",
        "Each row is a training stage. Shared representations should align and remain aligned on validation cells; leaks "
        "should remain near 0. The bound of a critic is not evidence of independence; only the audit is. Dotted lines "
        "mark the epochs whose weights were kept. The initial, closed-form solution is kept if no epoch was better on "
        "validation cells; specific representations are compared by the leak that a newly trained probe finds.",
        lambda: pl.history(history, keys=select_training_curves(history), show=False),
        "" if history else MODEL_REQUIRED,
        tables=("training",),
    )
    path = None if material.facts is None else material.facts.lambda_path
    if path is not None:
        yield Picture(
            "lambda_path",
            "training",
            "Trade-off curve along lambda",
            "Each point is a value of lambda, evaluated on validation cells. Points further left leak less; points further up "
            f"have a higher gain. {path.reason}",
            lambda: pl.lambda_path(path, show=False),
            tables=("lambda-path",),
        )


def _lacking(material: Material, key: str, remedy: str) -> str:
    """Return the reason why a table is missing, or an empty string."""
    return "" if key in material.mdata.uns else material.failures.get(key, remedy)


@dataclass(frozen=True)
class Figure:
    """A figure in a page, or the reason why it is missing.

    Parameters
    ----------
    name, section, title, reading, tables
        As in :class:`Picture`.
    rows
        Panels, row by row.
    svg
        The whole figure as an SVG data URI for download.
    missing
        Reason why the figure is missing; empty otherwise.
    """

    name: str
    section: Section
    title: str
    reading: str
    tables: Sequence[str] = ()
    rows: Sequence[Sequence[Image]] = ()
    svg: str = ""
    missing: str = ""


def draw_figures(pictures: Sequence[Picture]) -> list[Figure]:
    """Draw all figures. If one cannot be drawn, the reason is recorded instead."""
    with plt.ioff():  # figures are only embedded in the page, even in interactive mode
        return [_draw(picture) for picture in pictures]


def _draw(picture: Picture) -> Figure:
    common = picture.name, picture.section, picture.title, picture.reading, picture.tables
    if picture.missing:
        return Figure(*common, missing=picture.missing)
    before = plt.get_fignums()
    try:
        rows, svg = render_figure(figure_of(picture.draw()))
    except Exception as error:  # noqa: BLE001 (any failure is reported in the page and affects only this figure)
        return Figure(*common, missing=str(error.args[0] if error.args else error) or type(error).__name__)
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    return Figure(*common, rows=rows, svg=svg)
