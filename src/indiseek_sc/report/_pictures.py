"""The pictures of a report: what each shows, how it is read, what is missing where it cannot be drawn, and each as part of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import pyplot as plt

from indiseek_sc import _keys, pl
from indiseek_sc.report._facts import course_of_training
from indiseek_sc.report._images import Image, figure_of, render_figure
from indiseek_sc.report._tables import as_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from indiseek_sc.report._facts import Material

Section = Literal["latents", "importance", "dimensions", "independence", "prediction", "clusters", "training"]

FEATURES_OF_A_DIMENSION = 3
CELLS_OF_ATTRIBUTION = 200
WITH_MODEL = (
    "It needs the model: call model.report(path), or give the folder of a saved model to indiseek-sc report by --model."
)

WITHOUT_PREDICTION = (
    "The model has not learnt to predict one modality from the other. Call model.train_prediction() before the report, or fit with --predict; "
    "it takes about a minute."
)

NO_MAPS = (
    "The representations have no UMAP here. scanpy makes one of the joint representation by sc.pp.neighbors(mdata, use_rep='X_indiseek') and sc.tl.umap(mdata); "
    "indiseek-sc fit makes one of each representation."
)

READING_OF_MAPS = {
    "labels": "Each point is a cell. Groups in a shared representation are found in both modalities; a specific representation without groups means that its modality alone "
    "separates few of them, as is expected of most. A label is named where most of the nearest cells have it. Distances between groups mean nothing.",
    "theta": "Orange cells lie among their own label in the RNA-specific representation more than in the protein-specific one, blue cells the other way round.",
    "batch": "Each point is a cell. Where batches lie apart, the representation holds what differs between them, be it biology or handling.",
}
"""How a UMAP is read, by what colours it."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be drawn, or the reason why it cannot.

    Parameters
    ----------
    name
        Anchor in the page, and name of the file.
    section
        Where it stands.
    title
        What it shows.
    reading
        How it is read.
    draw
        Draws it, and returns its axes.
    missing
        What is not there, and what makes it; nothing if the picture can be drawn.
    tables
        Names of the tables behind it.
    """

    name: str
    section: Section
    title: str
    reading: str
    draw: Callable[[], Any]
    missing: str = ""
    tables: Sequence[str] = ()


def list_pictures(material: Material) -> list[Picture]:
    """All pictures of a report, in the order to look at them."""
    return [
        *_of_latents(material),
        *_of_importance(material),
        *_of_dimensions(material),
        *_of_independence(material),
        *_of_prediction(material),
        *_of_clusters(material),
        *_of_training(material),
    ]


def _of_latents(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    keys = {"joint": "X_umap"}
    for kind, key_of in (("shared", _keys.shared), ("specific", _keys.specific)):
        keys |= {f"{kind} {name}": f"{key_of(name)}_umap" for name in material.modalities.values()}
    without = [latent for latent, key in keys.items() if key not in mdata.obsm]
    missing = "" if len(without) < len(keys) else NO_MAPS
    lacking = f" Not shown, since they have no UMAP here: {', '.join(without)}." if without else ""
    batch = None if material.facts is None else material.facts.batch_key
    for number, color in enumerate(material.colors or [None]):
        words = (
            "coloured by theta"
            if color in _keys.THETAS
            else f"coloured by {color}"
            if color
            else "of the representations"
        )
        reading = READING_OF_MAPS[
            "theta" if color in _keys.THETAS else "batch" if color and color == batch else "labels"
        ]
        yield Picture(
            f"umap-{number}",
            "latents",
            f"UMAPs {words}",
            reading + lacking,
            lambda color=color: pl.umap(mdata, color, show=False),  # type: ignore[misc]
            missing,
        )


def _of_importance(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    over = (
        "cells, training cells and seeds" if material.has_refits else "cells alone, so that nothing is claimed by them"
    )
    if material.has_refits:
        yield Picture(
            "information",
            "importance",
            "Which modality resolves which labels",
            "Each row is a label: what either specific representation adds to the shared ones about it, for cells that the model was not trained on, with intervals over "
            f"{over}. A label in colour is resolved better by this modality; of a label in grey nothing is claimed.",
            lambda: pl.importance_ranking(mdata, score="information", show=False),
            tables=("theta",),
        )
    yield Picture(
        "theta",
        "importance",
        "Theta of each label",
        "Each row is a label. Right of 0 the RNA-specific representation keeps its cells together better, left of 0 the protein-specific one. Lines are intervals over "
        f"{over}; grey ones include 0, and hollow dots are labels of too few cells.",
        lambda: pl.importance_ranking(mdata, score="theta", show=False),
        _lacking(material, _keys.IMPORTANCE, "No labels were given. Name their column: label_key, or --label-key."),
        tables=("theta",),
    )
    yield Picture(
        "rank-correlation",
        "importance",
        "Theta beside weights of weighted nearest neighbours (WNN)",
        "Each point is a label: its mean theta against its mean WNN weight of RNA. A high correlation does not show good representations: WNN uses all that "
        "a modality measures, so a specific representation that leaks may come nearer to it.",
        lambda: pl.rank_correlation(mdata, of="means", show=False),
        _lacking(
            material,
            _keys.RANK_CORRELATION,
            "Theta was not compared with WNN weights. Call tl.wnn_weights(mdata) and tl.rank_correlation(mdata, label_key), or ask for compare.",
        ),
        tables=("rank-correlation", "rank-correlation-labels"),
    )


def _of_dimensions(material: Material) -> Iterator[Picture]:
    mdata = material.mdata
    for role, name in material.modalities.items():
        yield Picture(
            f"dimensions-{role}",
            "dimensions",
            f"What the dimensions of the specific representation of {name} follow",
            "A row for each dimension. Grey: the share of its variance that technical covariates explain, beyond the labels if there are any. Purple: labels that use the "
            "dimension more than all cells do, since their cells lie at its ends or differ along it; green: labels that use it less. To the right the features at both ends.",
            lambda name=name: pl.dimensions(mdata, name, show=False),  # type: ignore[misc]
            _lacking(material, _keys.DIMENSIONS, "Call tl.describe_dimensions(mdata, label_key)."),
            tables=("dimensions", "dimensions-covariates", "dimensions-labels"),
        )
    for role, name in material.modalities.items():
        yield Picture(
            f"attribution-{role}",
            "dimensions",
            f"Features that drive the specific representation of {name}",
            f"The {FEATURES_OF_A_DIMENSION} features that change most along each dimension, a column each. Purple rises with the dimension and green falls; signs of "
            "different dimensions have no common meaning.",
            lambda name=name: pl.attribution(  # type: ignore[misc]
                material.model.feature_attribution(
                    modality=name, kind="specific", max_cells=CELLS_OF_ATTRIBUTION, seed=material.seed
                ),
                n_top=FEATURES_OF_A_DIMENSION,
                show=False,
            ),
            "" if material.model is not None else WITH_MODEL,
        )


def _of_independence(material: Material) -> Iterator[Picture]:
    yield Picture(
        "audit",
        "independence",
        "The audit beside its aims",
        "What new probes find in the representations of cells that took no part in training. A bar should end beyond the mark of its aim; that of the leak ratio, which has a scale "
        "of its own, before it.",
        lambda: pl.audit(material.audit, show=False),
        "" if material.audit is not None else WITH_MODEL,
        tables=("audit",),
    )
    yield Picture(
        "retrieval",
        "independence",
        "How well a cell is found by its other modality",
        "The share of cells whose partner is among the k nearest shared representations of the other modality, in each direction; the dashed line is chance. The "
        "higher above it, the more the shared representations say of a single cell.",
        lambda: pl.retrieval(material.mdata, show=False),
        _lacking(material, _keys.RETRIEVAL, "Call tl.retrieval(mdata)."),
        tables=("retrieval",),
    )


def _of_prediction(material: Material) -> Iterator[Picture]:
    facts = material.facts
    reading = (
        "A panel for each of some features, from the best predicted to the worst; darker where there are more cells, and on the line where both are equal. "
        "Above each panel stand the correlation and the share of cells within their interval."
    )
    if facts is None or not facts.predictions:
        missing = WITH_MODEL if facts is None else WITHOUT_PREDICTION
        yield Picture("prediction-0", "prediction", "Predicted beside measured values", reading, lambda: None, missing)
        return
    roles = {name: role for role, name in material.modalities.items()}
    for number, ((source, target), report) in enumerate(facts.predictions.items()):
        yield Picture(
            f"prediction-{number}",
            "prediction",
            f"{target} predicted from {source}, beside what was measured",
            reading,
            lambda report=report, role=roles[target]: pl.prediction(report, role=role, show=False),  # type: ignore[misc]
            tables=(as_file_name(f"prediction-{target}-from-{source}"),),
        )


def _of_clusters(material: Material) -> Iterator[Picture]:
    missing = _lacking(
        material,
        _keys.CLUSTERS,
        "The representations were not clustered side by side. Call tl.compare_clusters(mdata, label_key), or ask for compare; it takes minutes.",
    )
    yield Picture(
        "cluster-agreement",
        "clusters",
        "How alike the clusters of the representations are",
        "Adjusted Rand index of every two representations, all with as many clusters; 1 is the same clusters and 0 is chance. On the diagonal one is compared with "
        "itself from other seeds: where that is low it has no clusters.",
        lambda: pl.cluster_agreement(material.mdata, show=False),
        missing,
        tables=("cluster-agreement", "cluster-resolutions"),
    )
    yield Picture(
        "cluster-splits",
        "clusters",
        "Which clusters fall apart in which representation",
        "A row for each cluster of the reference, a column for each other representation. Coloured tiles are clusters that fall apart, with the number of parts; a frame "
        "marks those that do so in one representation alone. Hatched are cuts that another seed would make elsewhere.",
        lambda: pl.cluster_splits(material.mdata, show=False),
        missing,
        tables=("cluster-splits",),
    )


def _of_training(material: Material) -> Iterator[Picture]:
    history = material.history
    yield Picture(
        "history",
        "training",
        "The course of training",
        "A row for each stage. Shared representations should align and stay so on validation cells; leaks should stay near 0. A bound of a critic is no evidence of "
        "independence, only the audit is. Dotted lines mark the epochs whose weights were kept: the start, which is a closed-form solution, is kept where no epoch was better on "
        "validation cells, for specific representations in the leak of a new probe.",
        lambda: pl.history(history, keys=course_of_training(history), show=False),
        "" if history else WITH_MODEL,
        tables=("training",),
    )
    path = None if material.facts is None else material.facts.lambda_path
    if path is not None:
        yield Picture(
            "lambda_path",
            "training",
            "The walk along lambda",
            "Each point is a lambda, evaluated on validation cells: to the left it leaks less, further up it keeps more. "
            f"{path.reason}",
            lambda: pl.lambda_path(path, show=False),
            tables=("lambda-path",),
        )


def _lacking(material: Material, key: str, remedy: str) -> str:
    """Why there is no table, if there is none."""
    return "" if key in material.mdata.uns else material.failures.get(key, remedy)


@dataclass(frozen=True)
class Figure:
    """A picture in a page, or the reason why there is none.

    Parameters
    ----------
    name, section, title, reading, tables
        As of the picture.
    rows
        Its panels, row by row.
    svg
        The whole figure as a data URI, to be taken away.
    missing
        Why there is none.
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
    """Draw all pictures. One that cannot be drawn costs the reader this one, with the reason, and not the report."""
    with plt.ioff():  # for the page alone, also where figures are shown at once
        return [_draw(picture) for picture in pictures]


def _draw(picture: Picture) -> Figure:
    words = picture.name, picture.section, picture.title, picture.reading, picture.tables
    if picture.missing:
        return Figure(*words, missing=picture.missing)
    before = plt.get_fignums()
    try:
        rows, svg = render_figure(figure_of(picture.draw()))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told in the page and costs this picture alone)
        return Figure(*words, missing=str(error.args[0] if error.args else error) or type(error).__name__)
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    return Figure(*words, rows=rows, svg=svg)
