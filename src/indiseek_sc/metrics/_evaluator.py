"""What fresh probes read from the representations of one modality."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from indiseek_sc.metrics._probes import (
    HeldOut,
    fit_ridge,
    flat_directions,
    held_out_r2,
    permutation_p_value,
    probe,
    through_floor,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_WHOLE = 0.02
"""A ratio to less than this share of variance would only compare noise; it is NaN."""

_LEAST_COMPONENTS = 10
"""The representation that ``r2_best`` refers to has at least this many components, however narrow Z is."""

NOISE_STREAM = 20250921
"""Sets the noise apart from synthetic data that were drawn with the same seed: else it could hold their factors."""


class Known(NamedTuple):
    """What is known of one modality before its specific representation, one row a cell."""

    features: NDArray[np.floating]
    shared: NDArray[np.floating]


class Cells(NamedTuple):
    """Row numbers of the cells to fit probes on and to read figures on, and the group of each cell if there are any."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    groups: NDArray[np.intp] | None = None


class Evaluator:
    """Judges the representations of one modality; what depends on features and shared representations alone is probed only once.

    The figures are those of :func:`indiseek_sc.metrics.audit`.

    Parameters
    ----------
    own, other
        The modality, and the other one.
    cells
        Who is fitted on, and who is judged on.
    seed
        Seed of the probes, the noise and the pairings.
    place
        0 or 1, which of the two modalities it is: they get noise of their own.
    """

    def __init__(self, own: Known, other: Known, cells: Cells, *, seed: int, place: int) -> None:
        self.own, self.other, self.cells, self.seed, self.place = own, other, cells, seed, place

    def _r2(self, source: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        return held_out_r2(source, target, self.cells.train, self.cells.test, seed=self.seed)

    def _read_leak(self, source: NDArray[np.floating]) -> HeldOut:
        train, test = self.cells.train, self.cells.test
        return probe(source, self._flat_other, train, test, neighbors=True, seed=self.seed)

    def _rng(self, use: int) -> np.random.Generator:
        return np.random.default_rng([NOISE_STREAM, self.seed, self.place, use])

    @cached_property
    def _flat_other(self) -> NDArray[np.float64]:
        return flat_directions(self.other.shared, self.cells.train)

    @cached_property
    def _seen(self) -> NDArray[np.float64]:
        return through_floor(self.own.shared, self.cells.train, self._rng(0))

    @cached_property
    def _largest_leak(self) -> HeldOut:
        return self._read_leak(self.own.features)

    @cached_property
    def _r2_shared(self) -> float:
        return self._r2(self._seen, self.own.features)

    @cached_property
    def _r2_reference(self) -> dict[int, float]:
        """By number of components; filled as they are asked for."""
        return {}

    @cached_property
    def shared_figures(self) -> dict[str, float]:
        """Figures of the shared representation but ``agreement_flat``, which the other modality's ``leak_max`` is."""
        told = self._r2(self._seen, self.other.features)
        return {
            "agreement": self._r2(self.other.features, self.own.shared),
            "sufficiency": _ratio(told, self._r2(self.own.features, self.other.features)),
        }

    def evaluate_leak(self, specific: NDArray[np.floating]) -> dict[str, float]:
        """Figures of what a specific representation tells of the other shared representation, and the standard error of ``leak_ratio``."""
        leak, largest = self._read_leak(specific), self._largest_leak
        groups = None if self.cells.groups is None else self.cells.groups[self.cells.test]
        p = (
            permutation_p_value(leak.predictions.values(), leak.truth, self._rng(2), groups)
            if leak.predictions
            else np.nan
        )
        is_defined = largest.r2 >= _LEAST_WHOLE
        return {
            "leak": leak.r2,
            "leak_max": largest.r2,
            "leak_ratio": _ratio(max(leak.r2, 0.0), largest.r2),
            "leak_ratio_se": _ratio_error(leak.told, largest.told) if is_defined else float("nan"),
            "leak_p": float(p),
        }

    def evaluate_completeness(
        self, specific: NDArray[np.floating], decoded: NDArray[np.floating] | None
    ) -> dict[str, float]:
        """Figures of what a specific representation adds to the shared one, and what a representation of its width could add."""
        both = np.hstack([through_floor(specific, self.cells.train, self._rng(1)), self._seen])
        r2_both = self._r2(both, self.own.features)
        if decoded is not None:
            r2_both = max(r2_both, self._r2(np.hstack([both, decoded]), self.own.features))
        r2_best = max(self._best_of_width(specific.shape[1]), r2_both)
        return {
            "r2_shared": self._r2_shared,
            "r2_both": r2_both,
            "r2_best": r2_best,
            "complete": _ratio(r2_both, r2_best),
            "gain": _ratio(r2_both - self._r2_shared, r2_best - self._r2_shared),
        }

    def _best_of_width(self, width: int) -> float:
        """What the shared representation and principal components of what a ridge from it leaves of the features rebuild."""
        train, features = self.cells.train, self.own.features
        n_components = min(max(width, _LEAST_COMPONENTS), features.shape[1], len(train))
        if n_components not in self._r2_reference:
            predicted = fit_ridge(self._seen[train], features[train]).predict(self._seen)
            residual = features - predicted.reshape(features.shape)
            components = PCA(n_components, random_state=0).fit(residual[train]).transform(residual)
            self._r2_reference[n_components] = self._r2(np.hstack([components, self._seen]), features)
        return self._r2_reference[n_components]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole >= _LEAST_WHOLE else float("nan")


def _ratio_error(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Standard error of ``sum(part) / sum(whole)`` over cells, by linearisation (Cochran, Sampling Techniques, 6.4)."""
    rest = part - part.sum() / whole.sum() * whole
    return float(np.sqrt(len(rest) * rest.var(ddof=1)) / whole.sum())
