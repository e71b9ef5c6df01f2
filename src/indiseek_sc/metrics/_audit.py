"""The audit: evaluation of representations by independent probes on held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_name, check_several, check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split
from indiseek_sc.metrics._evaluator import NOISE_STREAM, Cells, Evaluator, ModalityInputs
from indiseek_sc.metrics._probes import PROBES, REGRESSIONS
from indiseek_sc.metrics._retrieval import foscttm, recall_at_k

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import ArrayLike, NDArray

_MIN_TRAINING_CELLS = 16
"""Smallest number of cells on which probes are fitted."""


def audit(
    features: Mapping[str, ArrayLike],
    shared: Mapping[str, ArrayLike],
    specific: Mapping[str, ArrayLike],
    *,
    train: ArrayLike,
    test: ArrayLike,
    decoded: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    probes: Collection[str] = PROBES,
    max_retrieval: int = 4000,
    seed: int = 0,
) -> AuditReport:
    r"""Evaluate the representations of two paired modalities by probes on held-out cells.

    A probe is the better of a ridge regression and a multilayer perceptron (MLP); for the leak,
    nearest neighbours are used as well. Probes are fitted on ``train`` and evaluated on ``test``,
    and :math:`R^2(A \to B)` is the share of the variance of B that they predict from A. With X the
    features, C the shared and Z the specific representation of modality :math:`m`, and :math:`o`
    the other modality:

    - ``agreement`` :math:`= R^2(X_o \to C_m)`, and ``agreement_flat`` with all directions of C
      weighted equally;
    - ``sufficiency`` :math:`= R^2(C_m \to X_o) / R^2(X_m \to X_o)`;
    - ``leak`` :math:`= R^2(Z_m \to C_o)`, ``leak_max`` :math:`= R^2(X_m \to C_o)` and their ratio
      ``leak_ratio``, with all directions of :math:`C_o` weighted equally;
    - ``leak_p``, the p-value of a permutation test of independence of :math:`Z_m` and :math:`C_o`:
      the frequency with which the same predictions agree as well with the representations of
      permuted test cells. As probes are fitted on ``train``, the test is exact if test cells are
      exchangeable. It shows whether there is any leak, ``leak_ratio`` how large it is: with many
      cells a negligible leak is significant;
    - ``r2_shared`` :math:`= R^2(C_m \to X_m)`, ``r2_both`` :math:`= R^2((Z_m, C_m) \to X_m)` and
      ``r2_best``, for which Z is replaced by as many principal components (at least 10) of the
      residuals of a ridge regression of :math:`X_m` on :math:`C_m`; ``r2_best`` is at least
      ``r2_both``;
    - ``complete``, the ratio of ``r2_both`` to ``r2_best``, and ``gain``, the same ratio after
      subtracting ``r2_shared`` from both;
    - ``foscttm`` and ``recall@10`` of the two shared representations.

    For measures that reward information in a representation (sufficiency, complete, gain), noise of
    5 % of the standard deviation of its widest direction is added first, so that information on a
    negligible scale does not count. For the leak, every direction is used at full strength. A ratio
    is NaN if its denominator is below 0.02.

    Parameters
    ----------
    features
        By modality, the features that the representations were computed from (such as 50 principal
        components), shape ``(n_cells, n_features)``. There must be two modalities, with any names;
        all arrays contain the same cells in the same order.
    shared, specific
        By modality, its representations, shape ``(n_cells, n_latent)``. The two shared
        representations have the same width.
    train, test
        Row numbers of the cells on which probes are fitted and evaluated, shapes ``(n_train,)`` and
        ``(n_test,)``; they must not overlap.
    decoded
        By modality, the model's own reconstruction from (Z, C) alone, shape
        ``(n_cells, n_decoded)``. It is an additional input of the probes of ``r2_both``: whatever a
        decoder recovers from a representation is contained in it.
    groups
        Group of each cell, such as its batch, shape ``(n_cells,)``. ``leak_p`` then permutes within
        groups and tests for dependence beyond that explained by the group.
    probes
        Kinds of probes: ``"ridge"``, ``"mlp"`` and ``"neighbors"``. By ``("ridge",)`` only linear
        dependence is found; the report then says so.
    max_retrieval
        Largest number of test cells for ``foscttm`` and ``recall@10``; a random subset is used if
        there are more.
    seed
        Seed of the probes, of the noise and of the random subset.

    Returns
    -------
    The measures, which can be printed with their targets.

    Raises
    ------
    ValueError
        If there are not two modalities, names or shapes differ, a value is not finite, ``train``
        and ``test`` overlap, lie outside of the cells or are too small, a kind of probe is unknown,
        or neither ``"ridge"`` nor ``"mlp"`` is among them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> both, rna, adt = rng.normal(size=(3, 64, 2))
    >>> features = {"rna": np.hstack([both, rna]), "adt": np.hstack([both, adt])}
    >>> shared, specific = {"rna": both, "adt": both}, {"rna": rna, "adt": adt}
    >>> split = {"train": np.arange(32), "test": np.arange(32, 64)}
    >>> report = isk.metrics.audit(features, shared, specific, **split)
    >>> (report.table["leak_ratio"] < 0.5).tolist(), (report.table["gain"] > 0.9).tolist()
    ([True, True], [True, True])
    """
    auditor = SpecificAuditor(features, shared, train=train, test=test, groups=groups, probes=probes, seed=seed)
    return auditor.report(specific, decoded, max_retrieval=max_retrieval)


class SpecificAuditor:
    """Evaluator of several specific representations beside the same shared ones.

    Probes that depend on features and shared representations alone are fitted once. All specific
    representations are evaluated with the same noise and by probes of the same seed, so that their
    measures can be compared.

    Parameters
    ----------
    features, shared, train, test, groups, probes, seed
        As in :func:`audit`.

    Raises
    ------
    ValueError
        As in :func:`audit`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> both, rna, adt = rng.normal(size=(3, 64, 2))
    >>> features = {"rna": np.hstack([both, rna]), "adt": np.hstack([both, adt])}
    >>> shared, specific = {"rna": both, "adt": both}, {"rna": rna, "adt": adt}
    >>> split = {"train": np.arange(32), "test": np.arange(32, 64)}
    >>> auditor = isk.metrics.SpecificAuditor(features, shared, **split)
    >>> leaking = {"rna": rna + both, "adt": adt}
    >>> leak_ratio = auditor(leaking)["leak_ratio"]
    >>> bool(leak_ratio["rna"] > leak_ratio["adt"])
    True
    """

    def __init__(
        self,
        features: Mapping[str, ArrayLike],
        shared: Mapping[str, ArrayLike],
        *,
        train: ArrayLike,
        test: ArrayLike,
        groups: ArrayLike | None = None,
        probes: Collection[str] = PROBES,
        seed: int = 0,
    ) -> None:
        self.features, self.shared, self.seed = features, shared, check_whole("seed", seed, 0)
        self.probes = _check_probes(probes)
        modalities = _gather(features, shared, shared, None)
        self.cells = _as_cells(train, test, groups, len(next(iter(modalities.values())).features))
        self._evaluators = _make_evaluators(modalities, self.cells, self.probes, seed)

    def __call__(
        self, specific: Mapping[str, ArrayLike], decoded: Mapping[str, ArrayLike] | None = None
    ) -> pd.DataFrame:
        """Return the measures of ``specific``, one row for each modality.

        These are the measures of :func:`audit` that depend on it, and ``leak_ratio_se``, the
        standard error of ``leak_ratio`` over test cells for fixed probes.
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
        """Return the complete audit, including the measures of the shared representations.

        Parameters
        ----------
        specific, decoded, max_retrieval
            As in :func:`audit`.

        Returns
        -------
        The same as :func:`audit`.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> both, rna, adt = rng.normal(size=(3, 64, 2))
        >>> features = {"rna": np.hstack([both, rna]), "adt": np.hstack([both, adt])}
        >>> shared, specific = {"rna": both, "adt": both}, {"rna": rna, "adt": adt}
        >>> split = {"train": np.arange(32), "test": np.arange(32, 64)}
        >>> auditor = isk.metrics.SpecificAuditor(features, shared, **split)
        >>> auditor.report(specific).n_test
        32
        """
        table = self(specific, decoded)
        for name, evaluate in self._evaluators.items():
            table.loc[name, ["agreement", "sufficiency"]] = evaluate.shared_figures
        first, second = table.index
        # agreement_flat of one modality equals leak_max of the other: both are R2 from X_o to C_m.
        table["agreement_flat"] = [table.at[second, "leak_max"], table.at[first, "leak_max"]]
        rows = np.random.default_rng([NOISE_STREAM, self.seed]).permutation(self.cells.test)[:max_retrieval]
        latent, partner = (np.asarray(self.shared[name])[rows] for name in (first, second))
        pair = {"foscttm": foscttm(latent, partner), "recall@10": recall_at_k(latent, partner, k=10)}
        n_train, n_test = len(self.cells.train), len(self.cells.test)
        return AuditReport(
            table[list(AUDIT_MEASURES)], pair, n_train=n_train, n_test=n_test, n_retrieval=len(rows), probes=self.probes
        )


class _Modality(NamedTuple):
    """Arrays of one modality, one row for each cell."""

    features: NDArray[np.floating]
    shared: NDArray[np.floating]
    specific: NDArray[np.floating]
    decoded: NDArray[np.floating] | None = None


def _check_probes(probes: Collection[str]) -> tuple[str, ...]:
    chosen = [check_name("probes", kind, PROBES) for kind in check_several("probes", probes)]
    if not set(chosen) & set(REGRESSIONS):
        raise ValueError(f"probes must include 'ridge' or 'mlp', but is {chosen}.")
    return tuple(kind for kind in PROBES if kind in chosen)


def _make_evaluators(
    modalities: Mapping[str, _Modality], cells: Cells, probes: tuple[str, ...], seed: int
) -> dict[str, Evaluator]:
    inputs = {name: ModalityInputs(modality.features, modality.shared) for name, modality in modalities.items()}
    first, second = inputs
    return {
        own: Evaluator(inputs[own], inputs[other], cells, seed=seed, place=place, probes=probes)
        for place, (own, other) in enumerate(((first, second), (second, first)))
    }


def _as_cells(train: ArrayLike, test: ArrayLike, groups: ArrayLike | None, n_cells: int) -> Cells:
    rows_train, rows_test = as_split(train, test, n_cells)
    if len(rows_train) < _MIN_TRAINING_CELLS:
        raise ValueError(f"train needs at least {_MIN_TRAINING_CELLS} cells to fit probes on; got {len(rows_train)}.")
    return Cells(rows_train, rows_test, None if groups is None else as_labels(groups, "groups", n_cells)[0])


def _gather(
    features: Mapping[str, ArrayLike],
    shared: Mapping[str, ArrayLike],
    specific: Mapping[str, ArrayLike],
    decoded: Mapping[str, ArrayLike] | None,
) -> dict[str, _Modality]:
    """Return the checked arrays of each modality."""
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


AUDIT_MEASURES: dict[str, tuple[str, str]] = {
    "agreement": ("1 is best", "share of the variance of C that the other modality explains"),
    "agreement_flat": ("1 is best", "the same, with all directions of C weighted equally"),
    "sufficiency": ("1 is best", "R2 from C to the other modality, relative to that from all features"),
    "leak": ("0 is best", "share of the other modality's C that Z explains"),
    "leak_max": ("for scale", "share of the other modality's C that all features explain"),
    "leak_ratio": ("0 is best", "leak relative to leak_max"),
    "leak_p": ("p-value", "permutation test of the leak; its size is leak_ratio"),
    "r2_shared": ("for scale", "share of the features that C alone explains"),
    "r2_both": ("for scale", "share of the features that C and Z explain"),
    "r2_best": ("for scale", "share of the features that C and a Z of this width can explain"),
    "complete": ("1 is best", "r2_both relative to r2_best"),
    "gain": ("1 is best", "what Z adds to C, relative to the most that it could add"),
}
"""For each measure of one modality, its target and its meaning; C is shared, Z is specific."""

AUDIT_PAIR_MEASURES: dict[str, tuple[str, str]] = {
    "foscttm": ("0 is best, 0.5 is chance", "share of cells closer to a cell's C than its own partner"),
    "recall@10": ("1 is best", "share of cells whose partner is among their 10 nearest"),
}
"""Target and meaning of each measure of both modalities together."""

_NOT_A_NUMBER = "A dash stands where the denominator of a ratio is too small for the ratio to be meaningful."


@dataclass(frozen=True, eq=False)
class AuditReport:
    """Measures of an audit on held-out cells; printing it lists them with their targets.

    Attributes
    ----------
    table
        One row for each modality, one column for each measure; the printed report explains them.
        NaN where the denominator of a ratio is too small.
    pair
        Measures of both shared representations together: ``foscttm`` and ``recall@10``.
    n_train, n_test
        Number of cells on which the probes were fitted and evaluated.
    n_retrieval
        Number of test cells for the measures in ``pair``.
    probes
        Kinds of probes that were used.

    Examples
    --------
    >>> figures = list(isk.metrics.AUDIT_MEASURES)
    >>> table = pd.DataFrame(0.5, index=["rna", "adt"], columns=figures)
    >>> pair = {"foscttm": 0.01, "recall@10": 0.9}
    >>> report = isk.metrics.AuditReport(table, pair, n_train=480, n_test=120, n_retrieval=120)
    >>> print(report)
    Audit on 120 held-out cells, by probes fitted on 480 others
    ...
    """

    table: pd.DataFrame
    pair: dict[str, float]
    n_train: int
    n_test: int
    n_retrieval: int
    probes: tuple[str, ...] = PROBES

    def to_dict(self) -> dict[str, float]:
        """Return all measures as a flat mapping, with keys such as ``"rna.leak_ratio"``.

        Examples
        --------
        >>> table = pd.DataFrame({"gain": [0.9, 0.8]}, index=["rna", "adt"])
        >>> report = isk.metrics.AuditReport(table, {"foscttm": 0.01}, 480, 120, 120)
        >>> report.to_dict()
        {'rna.gain': 0.9, 'adt.gain': 0.8, 'foscttm': 0.01}
        """
        of_modalities = {
            f"{modality}.{figure}": float(value)
            for modality, row in self.table.iterrows()
            for figure, value in row.items()
        }
        return of_modalities | self.pair

    def __str__(self) -> str:
        shown = self._shown()
        for column in ("target", "meaning"):  # pandas would align text to the right
            shown[column] = shown[column].str.ljust(shown[column].str.len().max())
        lines = shown.to_string(justify="left").splitlines()
        return "\n".join([self._title(), "", *map(str.rstrip, lines), "", *self._notes()])

    def _repr_html_(self) -> str:
        paragraphs = "".join(f"<p>{note}</p>" for note in self._notes())
        return f"<p><b>{self._title()}</b></p>{self._shown().to_html()}{paragraphs}"

    def _title(self) -> str:
        some = "" if set(self.probes) == set(PROBES) else f" ({' and '.join(self.probes)} only)"
        return f"Audit on {self.n_test:,} held-out cells, by probes{some} fitted on {self.n_train:,} others"

    def _shown(self) -> pd.DataFrame:
        """Return measures as rows, with columns for modalities, target and meaning."""
        shown = self.table.T.map("{:.3f}".format).replace("nan", "-")
        shown["target"] = [AUDIT_MEASURES[figure][0] for figure in shown.index]
        shown["meaning"] = [AUDIT_MEASURES[figure][1] for figure in shown.index]
        return shown

    def _notes(self) -> list[str]:
        """Return the measures of the pair, and an explanation of dashes if there are any."""
        notes = [
            f"{name} {value:.3f} ({AUDIT_PAIR_MEASURES[name][0]}): {AUDIT_PAIR_MEASURES[name][1]}, of {self.n_retrieval:,}"
            for name, value in self.pair.items()
        ]
        return [*notes, _NOT_A_NUMBER] if self.table.isna().any(axis=None) else notes
