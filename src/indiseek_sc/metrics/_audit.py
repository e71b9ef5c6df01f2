"""The judge: shared and specific codes, audited on held-out cells by models that never saw their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from indiseek_sc.metrics._checks import as_matrix, as_split
from indiseek_sc.metrics._noise_floor import flat_directions, through_floor
from indiseek_sc.metrics._probe import fit_ridge, held_out_r2
from indiseek_sc.metrics._report import FIGURES, AuditReport
from indiseek_sc.metrics._retrieval import foscttm, recall_at_k

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

_LEAST_WHOLE = 0.02
"""A ratio to less than this share of variance would only compare noise; it is NaN."""

_LEAST_COMPONENTS = 10
"""The code that ``r2_best`` refers to has at least this many components, however narrow Z is."""

_LEAST_TRAINING_CELLS = 16

_STREAM = 20250921
"""Sets the noise apart from synthetic data that were drawn with the same seed: else it could hold their factors."""


def audit(
    features: Mapping[str, ArrayLike],
    shared: Mapping[str, ArrayLike],
    specific: Mapping[str, ArrayLike],
    *,
    train: ArrayLike,
    test: ArrayLike,
    decoded: Mapping[str, ArrayLike] | None = None,
    max_retrieval: int = 4000,
    seed: int = 0,
) -> AuditReport:
    r"""Judge the codes of two paired modalities by what fresh probes can and cannot read from them.

    A probe is the better of a ridge regression and an MLP, fitted on ``train`` and read on ``test``;
    :math:`R^2(A \to B)` is the share of the variance of B that it predicts from A. With X the features, C the shared
    and Z the specific code of modality :math:`m`, and :math:`o` the other modality:

    - ``agreement`` :math:`= R^2(X_o \to C_m)`, and ``agreement_flat`` with the directions of C weighed equally;
    - ``sufficiency`` :math:`= R^2(C_m \to X_o) / R^2(X_m \to X_o)`;
    - ``leak`` :math:`= R^2(Z_m \to C_o)`, ``leak_max`` :math:`= R^2(X_m \to C_o)`, and their ``leak_ratio``, the
      directions of :math:`C_o` weighed equally;
    - ``r2_shared`` :math:`= R^2(C_m \to X_m)`, ``r2_both`` :math:`= R^2((Z_m, C_m) \to X_m)`, and ``r2_best``, the
      same with as many principal components (at least 10) of what a ridge from :math:`C_m` leaves of :math:`X_m` in
      the place of Z, or ``r2_both`` if that is more;
    - ``complete``, ``r2_both`` over ``r2_best``, and ``gain``, the same after taking ``r2_shared`` from both;
    - ``foscttm`` and ``recall@10`` of the two shared codes.

    Where a code is praised for what it holds (sufficiency, complete, gain) it is read through noise of 5 % of its
    widest direction, so that nothing counts that it hides at a tiny scale; where it is blamed (leak), every direction
    is read at full strength. A ratio is NaN where there is less than 0.02 to refer to.

    Parameters
    ----------
    features
        By modality, what the codes were made from (such as 50 principal components), shape ``(n_cells, n_features)``.
        There are two modalities, of any names; all arrays hold the same cells in the same order.
    shared, specific
        By modality, its codes, shape ``(n_cells, n_code)``. The two shared codes have the same width.
    train, test
        Row numbers of the cells to fit probes on and to read figures on; without a cell in common.
    decoded
        By modality, what the model itself decodes from (Z, C) and nothing else, shape ``(n_cells, n_decoded)``: a help
        for the probes of ``r2_both``, since what a decoder can make of a code was in the code.
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
    modalities = _gather(features, shared, specific, decoded)
    first, second = modalities
    fitted, read = as_split(train, test, len(modalities[first].features))
    if len(fitted) < _LEAST_TRAINING_CELLS:
        raise ValueError(f"train needs at least {_LEAST_TRAINING_CELLS} cells to fit probes on; got {len(fitted)}.")
    probe = _Probe(fitted, read, seed)
    rng = np.random.default_rng([_STREAM, seed])
    figures = {
        first: _judge(modalities[first], modalities[second], probe, rng),
        second: _judge(modalities[second], modalities[first], probe, rng),
    }
    for own, other in ((first, second), (second, first)):
        figures[own]["agreement_flat"] = figures[other]["leak_max"]  # one question: what does X_o tell of C_m
    table = pd.DataFrame(figures).T[list(FIGURES)]
    sought = rng.permutation(read)[:max_retrieval]
    codes = modalities[first].shared[sought], modalities[second].shared[sought]
    pair = {"foscttm": foscttm(*codes), "recall@10": recall_at_k(*codes, k=10)}
    return AuditReport(table, pair, n_train=len(fitted), n_test=len(read), n_retrieval=len(sought))


class _Modality(NamedTuple):
    """Arrays of one modality, one row a cell."""

    features: NDArray[np.floating]
    shared: NDArray[np.floating]
    specific: NDArray[np.floating]
    decoded: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class _Probe:
    """What one array tells of another, with a fixed split and seed."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    seed: int

    def __call__(self, source: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        return held_out_r2(source, target, self.train, self.test, seed=self.seed)


def _judge(own: _Modality, other: _Modality, probe: _Probe, rng: np.random.Generator) -> dict[str, float]:
    """All figures of one modality but ``agreement_flat``, which the other one's ``leak_max`` is."""
    seen = through_floor(own.shared, probe.train, rng)
    flat_other = flat_directions(other.shared, probe.train)
    leak, leak_max = probe(own.specific, flat_other), probe(own.features, flat_other)
    return {
        "agreement": probe(other.features, own.shared),
        "sufficiency": _ratio(probe(seen, other.features), probe(own.features, other.features)),
        "leak": leak,
        "leak_max": leak_max,
        "leak_ratio": _ratio(max(leak, 0.0), leak_max),
        **_judge_completeness(own, seen, probe, rng),
    }


def _judge_completeness(
    own: _Modality, seen: NDArray[np.floating], probe: _Probe, rng: np.random.Generator
) -> dict[str, float]:
    """What Z adds to C, ``seen`` through the floor, and what a code of its width could add."""
    both = np.hstack([through_floor(own.specific, probe.train, rng), seen])
    reference = np.hstack([_residual_components(own, seen, probe.train), seen])
    r2_shared, r2_both = probe(seen, own.features), probe(both, own.features)
    if own.decoded is not None:
        r2_both = max(r2_both, probe(np.hstack([both, own.decoded]), own.features))
    r2_best = max(probe(reference, own.features), r2_both)
    return {
        "r2_shared": r2_shared,
        "r2_both": r2_both,
        "r2_best": r2_best,
        "complete": _ratio(r2_both, r2_best),
        "gain": _ratio(r2_both - r2_shared, r2_best - r2_shared),
    }


def _residual_components(own: _Modality, seen: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.floating]:
    """Principal components of what a ridge from the shared code leaves of the features."""
    predicted = fit_ridge(seen[train], own.features[train]).predict(seen)
    residual = own.features - predicted.reshape(own.features.shape)
    wanted = max(own.specific.shape[1], _LEAST_COMPONENTS)
    n_components = min(wanted, own.features.shape[1], len(train))
    return PCA(n_components, random_state=0).fit(residual[train]).transform(residual)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole >= _LEAST_WHOLE else float("nan")


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
        raise ValueError(f"The shared codes must have the same width to be compared; got {widths}.")
    return modalities
