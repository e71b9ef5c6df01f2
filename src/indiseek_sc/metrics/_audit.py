"""The audit: shared and specific representations, judged on held-out cells by models that never saw their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split
from indiseek_sc.metrics._evaluator import NOISE_STREAM, Cells, Evaluator, Known
from indiseek_sc.metrics._retrieval import foscttm, recall_at_k

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

_LEAST_TRAINING_CELLS = 16


def audit(
    features: Mapping[str, ArrayLike],
    shared: Mapping[str, ArrayLike],
    specific: Mapping[str, ArrayLike],
    *,
    train: ArrayLike,
    test: ArrayLike,
    decoded: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    max_retrieval: int = 4000,
    seed: int = 0,
) -> AuditReport:
    r"""Judge the representations of two paired modalities by what fresh probes can and cannot read from them.

    A probe is the better of a ridge regression and an MLP, and for the leak of nearest neighbours too, fitted on
    ``train`` and read on ``test``; :math:`R^2(A \to B)` is the share of the variance of B that it predicts from A. With X the features, C the shared
    and Z the specific representation of modality :math:`m`, and :math:`o` the other modality:

    - ``agreement`` :math:`= R^2(X_o \to C_m)`, and ``agreement_flat`` with the directions of C weighed equally;
    - ``sufficiency`` :math:`= R^2(C_m \to X_o) / R^2(X_m \to X_o)`;
    - ``leak`` :math:`= R^2(Z_m \to C_o)`, ``leak_max`` :math:`= R^2(X_m \to C_o)`, and their ``leak_ratio``, the
      directions of :math:`C_o` weighed equally;
    - ``leak_p``, the p-value of a permutation test of whether :math:`Z_m` tells anything of :math:`C_o` at all: how often
      the same probes' predictions agree as well with the representations of other test cells. Probes are fitted on ``train``, so it
      is exact where test cells are exchangeable. It says whether there is any leak, and ``leak_ratio`` how much: with
      many cells a negligible leak is significant;
    - ``r2_shared`` :math:`= R^2(C_m \to X_m)`, ``r2_both`` :math:`= R^2((Z_m, C_m) \to X_m)`, and ``r2_best``, the
      same with as many principal components (at least 10) of what a ridge from :math:`C_m` leaves of :math:`X_m` in
      the place of Z, or ``r2_both`` if that is more;
    - ``complete``, ``r2_both`` over ``r2_best``, and ``gain``, the same after taking ``r2_shared`` from both;
    - ``foscttm`` and ``recall@10`` of the two shared representations.

    Where a representation is praised for what it holds (sufficiency, complete, gain) it is read through noise of 5 % of its
    widest direction, so that nothing counts that it hides at a tiny scale; where it is blamed (leak), every direction
    is read at full strength. A ratio is NaN where there is less than 0.02 to refer to.

    Parameters
    ----------
    features
        By modality, what the representations were made from (such as 50 principal components), shape ``(n_cells, n_features)``.
        There are two modalities, of any names; all arrays hold the same cells in the same order.
    shared, specific
        By modality, its representations, shape ``(n_cells, n_latent)``. The two shared representations have the same width.
    train, test
        Row numbers of the cells to fit probes on and to read figures on; without a cell in common.
    decoded
        By modality, what the model itself decodes from (Z, C) and nothing else, shape ``(n_cells, n_decoded)``: a help
        for the probes of ``r2_both``, since what a decoder can make of a representation was in the representation.
    groups
        Group of each cell, such as its batch, shape ``(n_cells,)``: ``leak_p`` then permutes within groups, and asks whether Z
        tells of C what the group does not.
    max_retrieval
        Partners are sought among at most so many test cells, drawn at random.
    seed
        Seed of the probes, of the noise and of the draw of cells.

    Raises
    ------
    ValueError
        If there are not two modalities, names or shapes differ, a value is not finite, or ``train`` and ``test``
        overlap, point outside of the cells or are too small.
    """
    auditor = SpecificAuditor(features, shared, train=train, test=test, groups=groups, seed=seed)
    return auditor.report(specific, decoded, max_retrieval=max_retrieval)


class SpecificAuditor:
    """Judges one set of specific representations after another beside the same shared representations, such as along a path of lambdas.

    What depends on features and shared representations alone is probed once, and all representations are read through the same noise by probes
    of the same seed, so that their figures can be compared.

    Parameters
    ----------
    features, shared, train, test, groups, seed
        As in :func:`audit`.

    Raises
    ------
    ValueError
        As :func:`audit`.
    """

    def __init__(
        self,
        features: Mapping[str, ArrayLike],
        shared: Mapping[str, ArrayLike],
        *,
        train: ArrayLike,
        test: ArrayLike,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> None:
        self.features, self.shared, self.seed = features, shared, check_whole("seed", seed, 0)
        modalities = _gather(features, shared, shared, None)
        self.cells = _as_cells(train, test, groups, len(next(iter(modalities.values())).features))
        self._evaluators = _make_evaluators(modalities, self.cells, seed)

    def __call__(
        self, specific: Mapping[str, ArrayLike], decoded: Mapping[str, ArrayLike] | None = None
    ) -> pd.DataFrame:
        """Return the figures of ``specific``, one row a modality.

        Those of :func:`audit` that depend on it, and ``leak_ratio_se``, the standard error of ``leak_ratio`` over test cells:
        how far other cells would have moved it, with the same probes.
        """
        modalities = _gather(self.features, self.shared, specific, decoded)
        figures = {
            name: evaluate.evaluate_leak(modalities[name].specific)
            | evaluate.evaluate_completeness(modalities[name].specific, modalities[name].decoded)
            for name, evaluate in self._evaluators.items()
        }
        return pd.DataFrame(figures).T

    def report(
        self,
        specific: Mapping[str, ArrayLike],
        decoded: Mapping[str, ArrayLike] | None = None,
        *,
        max_retrieval: int = 4000,
    ) -> AuditReport:
        """Return what :func:`audit` returns: the figures of the shared representations too."""
        table = self(specific, decoded)
        for name, evaluate in self._evaluators.items():
            table.loc[name, ["agreement", "sufficiency"]] = evaluate.shared_figures
        first, second = table.index
        # One question, asked once: what does X_o tell of C_m?
        table["agreement_flat"] = [table.at[second, "leak_max"], table.at[first, "leak_max"]]
        sought = np.random.default_rng([NOISE_STREAM, self.seed]).permutation(self.cells.test)[:max_retrieval]
        latent, partner = (np.asarray(self.shared[name])[sought] for name in (first, second))
        pair = {"foscttm": foscttm(latent, partner), "recall@10": recall_at_k(latent, partner, k=10)}
        n_train, n_test = len(self.cells.train), len(self.cells.test)
        return AuditReport(table[list(AUDIT_FIGURES)], pair, n_train=n_train, n_test=n_test, n_retrieval=len(sought))


class _Modality(NamedTuple):
    """Arrays of one modality, one row a cell."""

    features: NDArray[np.floating]
    shared: NDArray[np.floating]
    specific: NDArray[np.floating]
    decoded: NDArray[np.floating] | None = None


def _make_evaluators(modalities: Mapping[str, _Modality], cells: Cells, seed: int) -> dict[str, Evaluator]:
    known = {name: Known(modality.features, modality.shared) for name, modality in modalities.items()}
    first, second = known
    return {
        own: Evaluator(known[own], known[other], cells, seed=seed, place=place)
        for place, (own, other) in enumerate(((first, second), (second, first)))
    }


def _as_cells(train: ArrayLike, test: ArrayLike, groups: ArrayLike | None, n_cells: int) -> Cells:
    fitted, read = as_split(train, test, n_cells)
    if len(fitted) < _LEAST_TRAINING_CELLS:
        raise ValueError(f"train needs at least {_LEAST_TRAINING_CELLS} cells to fit probes on; got {len(fitted)}.")
    return Cells(fitted, read, None if groups is None else as_labels(groups, "groups", n_cells)[0])


def _gather(
    features: Mapping[str, ArrayLike],
    shared: Mapping[str, ArrayLike],
    specific: Mapping[str, ArrayLike],
    decoded: Mapping[str, ArrayLike] | None,
) -> dict[str, _Modality]:
    """The checked arrays of each modality."""
    names = list(features)
    if len(names) != 2:
        raise ValueError(f"features must hold two modalities; got {names}.")
    given = {"features": features, "shared": shared, "specific": specific}
    given |= {} if decoded is None else {"decoded": decoded}
    for argument, arrays in given.items():
        if set(arrays) != set(names):
            raise ValueError(f"{argument} must hold the modalities {names} of features; got {list(arrays)}.")
    n_cells = len(as_matrix(features[names[0]], f"features[{names[0]!r}]"))
    modalities = {
        name: _Modality(**{key: as_matrix(value[name], f"{key}[{name!r}]", n_cells) for key, value in given.items()})
        for name in names
    }
    widths = {name: modality.shared.shape[1] for name, modality in modalities.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"The shared representations must have the same width to be compared; got {widths}.")
    return modalities


AUDIT_FIGURES: dict[str, tuple[str, str]] = {
    "agreement": ("1 is best", "share of C that the other modality explains"),
    "agreement_flat": ("1 is best", "the same, with all directions of C weighed equally"),
    "sufficiency": (
        "1 is best",
        "what C explains of the other modality, of what all features explain",
    ),
    "leak": ("0 is best", "share of the other modality's C that Z explains"),
    "leak_max": ("for scale", "share of the other modality's C that all features explain"),
    "leak_ratio": ("0 is best", "leak, as a share of leak_max"),
    "leak_p": ("p-value", "permutation test: is the leak larger than chance? Its size is leak_ratio"),
    "r2_shared": ("for scale", "share of the features that C alone explains"),
    "r2_both": ("for scale", "share of the features that C and Z explain"),
    "r2_best": ("for scale", "share of the features that C and as wide a Z can explain"),
    "complete": ("1 is best", "r2_both, as a share of r2_best"),
    "gain": ("1 is best", "what Z adds to C, of all that could be added"),
}
"""By figure of one modality: its target and what it says of the shared representation C and the specific representation Z."""

AUDIT_PAIR_FIGURES: dict[str, tuple[str, str]] = {
    "foscttm": ("0 is best, 0.5 is chance", "share of cells nearer to a cell's C than its own partner"),
    "recall@10": ("1 is best", "share of cells whose partner is among their 10 nearest"),
}
"""The same for the figures of both modalities together."""

_NOT_A_NUMBER = "A dash stands where there is too little to share, to leak or to gain for a ratio to mean anything."


@dataclass(frozen=True, eq=False)
class AuditReport:
    """Figures of an audit on held-out cells; print it to read them with their targets.

    Attributes
    ----------
    table
        One row a modality, one column a figure; what each says is in the printed report. NaN where a ratio has
        nothing to refer to.
    pair
        Figures of both shared representations together: ``foscttm`` and ``recall@10``.
    n_train, n_test
        Cells that the probes were fitted on, and cells that the figures were read on.
    n_retrieval
        Cells of the test part among which partners were sought.
    """

    table: pd.DataFrame
    pair: dict[str, float]
    n_train: int
    n_test: int
    n_retrieval: int

    def to_dict(self) -> dict[str, float]:
        """All figures as one flat mapping, with keys such as ``"rna.leak_ratio"`` and ``"foscttm"``."""
        of_modalities = {
            f"{modality}.{figure}": float(value)
            for modality, row in self.table.iterrows()
            for figure, value in row.items()
        }
        return of_modalities | self.pair

    def __str__(self) -> str:
        shown = self._shown()
        for column in ("target", "meaning"):  # pandas would set words flush right
            shown[column] = shown[column].str.ljust(shown[column].str.len().max())
        lines = shown.to_string(justify="left").splitlines()
        return "\n".join([self._title(), "", *map(str.rstrip, lines), "", *self._notes()])

    def _repr_html_(self) -> str:
        paragraphs = "".join(f"<p>{note}</p>" for note in self._notes())
        return f"<p><b>{self._title()}</b></p>{self._shown().to_html()}{paragraphs}"

    def _title(self) -> str:
        return f"Audit on {self.n_test:,} held-out cells, by probes fitted on {self.n_train:,} others"

    def _shown(self) -> pd.DataFrame:
        """Figures down, modalities across, then the target of each figure and what it says."""
        shown = self.table.T.map("{:.3f}".format).replace("nan", "-")
        shown["target"] = [AUDIT_FIGURES[figure][0] for figure in shown.index]
        shown["meaning"] = [AUDIT_FIGURES[figure][1] for figure in shown.index]
        return shown

    def _notes(self) -> list[str]:
        """The figures of the pair, and what a dash means if there is one."""
        notes = [
            f"{name} {value:.3f} ({AUDIT_PAIR_FIGURES[name][0]}): {AUDIT_PAIR_FIGURES[name][1]}, of {self.n_retrieval:,}"
            for name, value in self.pair.items()
        ]
        return [*notes, _NOT_A_NUMBER] if self.table.isna().any(axis=None) else notes
